// The page: detects in an image once, and shows the detections by threshold and class.

import { detectIn, isLocal, ready } from "./detecting.js";
import { classColor, drawBoxes, layOut } from "./drawing.js";

const MAX_BYTES = Number(document.body.dataset.maxBytes);
const MAX_CANVAS = 16_000_000; // pixels that every browser supports
const DRAWN_SIDE = 480; // pixels; smaller images are enlarged when they are saved

const element = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((each) => [each.id, each]),
);
const hidden = new Set(); // labels of classes that are not shown
let current = null; // {name, image, width, height, detections, answer, milliseconds}
let chosen = null; // the detection of the active row
let running = null; // the AbortController of the current request

// Images come from the button, drag and drop, the clipboard, and the camera.

for (const button of [element.choose, element.drop]) {
  button.addEventListener("click", () => element.file.click());
}
element.file.addEventListener("change", () => {
  const [file] = element.file.files;
  element.file.value = ""; // so that the same file can be chosen again
  if (file) detect(file, file.name);
});
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("dragged");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragged");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  const [file] = event.dataTransfer.files;
  if (file) detect(file, file.name);
  else showError("The dropped item is not a file: save the image first, and drop its file.");
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) detect(file, file.name);
});

element.camera.hidden = !navigator.mediaDevices?.getUserMedia;
element.camera.addEventListener("click", async () => {
  try {
    element.video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 1920 } },
    });
    element["camera-dialog"].showModal();
    if (isLocal) await watch();
  } catch (error) {
    element["camera-dialog"].close();
    showError(`The camera cannot be used: ${error.message}`);
  }
});

/** The current frame of the camera as a canvas; null before the first frame. */
function frame() {
  const { videoWidth: width, videoHeight: height } = element.video;
  if (!width) return null;
  const canvas = newCanvas(width, height);
  canvas.getContext("2d").drawImage(element.video, 0, 0);
  return canvas;
}

/** Shows the detections in frames of the camera, until the dialog closes. */
async function watch() {
  const { overlay } = element;
  const { signal } = new AbortController();
  while (element["camera-dialog"].open) {
    await new Promise(requestAnimationFrame);
    const canvas = frame();
    if (!canvas) continue;
    const { answer, milliseconds } = await detectIn(canvas, signal);
    if (!element["camera-dialog"].open) return;
    const least = Number(element.threshold.value);
    const detections = listed(answer).filter((each) => each.score >= least);
    overlay.width = Math.round(overlay.clientWidth * devicePixelRatio);
    overlay.height = Math.round(overlay.clientHeight * devicePixelRatio);
    const size = { width: overlay.width, height: overlay.height };
    const scale = overlay.width / answer.images[0].width;
    const context = overlay.getContext("2d");
    drawBoxes(overlay, layOut(context, size, detections, scale, 12 * devicePixelRatio));
    element.live.textContent = `${counted(detections)}, ${milliseconds.toFixed(0)} ms`;
  }
}
element.take.addEventListener("click", () => {
  const canvas = frame();
  if (!canvas) return;
  element["camera-dialog"].close();
  canvas.toBlob((blob) => detect(blob, "photo.jpg"), "image/jpeg", 0.95);
});
element.cancel.addEventListener("click", () => element["camera-dialog"].close());
element["camera-dialog"].addEventListener("close", () => {
  for (const track of element.video.srcObject?.getTracks() ?? []) track.stop();
  element.video.srcObject = null;
  element.overlay.width = 0; // removes the last boxes
  element.live.textContent = "";
});

/** Detects in an image, and shows the detections. */
async function detect(file, name) {
  running?.abort();
  const own = (running = new AbortController());
  showError("");
  if (file.size > MAX_BYTES) {
    const limit = `${(MAX_BYTES / 2 ** 20).toFixed(0)} MiB`;
    showError(`${name} has ${(file.size / 2 ** 20).toFixed(1)} MiB; the limit is ${limit}.`);
    return;
  }
  showStatus(`Detecting in ${name} …`);
  try {
    const [found, image] = await Promise.all([
      detectIn(file, own.signal, showStatus),
      decode(file),
    ]);
    if (own.signal.aborted) return;
    const { answer, milliseconds } = found;
    const { width, height } = answer.images[0];
    answer.images[0].file_name = name;
    current?.image?.close();
    current = { name, image, width, height, answer, milliseconds, detections: listed(answer) };
    hidden.clear();
    chosen = null;
    show();
  } catch (error) {
    if (!own.signal.aborted) {
      showStatus("");
      showError(`${name}: ${error.message}`);
    }
  }
}

/** The upright image, decoded by the browser; null for an unsupported format. */
function decode(file) {
  return createImageBitmap(file).catch(() => null);
}

/** The detections as a list, the best first. */
function listed(answer) {
  const labels = new Map(answer.categories.map((each, i) => [each.id, i + 1]));
  return answer.annotations.map((each) => {
    const label = labels.get(each.category_id);
    const [x, y, width, height] = each.bbox;
    const name = answer.categories[label - 1].name;
    return { x, y, width, height, label, name, score: each.score };
  });
}

// The threshold and the classes filter the detections, without detecting again.

element.threshold.addEventListener("input", show);
element["all-classes"].addEventListener("click", () => {
  hidden.clear();
  show();
  element.classes.querySelector("button")?.focus();
});
addEventListener("resize", draw);

/** The detections of visible classes that reach the threshold. */
function shown() {
  const threshold = Number(element.threshold.value);
  return current.detections.filter((each) => each.score >= threshold && !hidden.has(each.label));
}

function show() {
  const threshold = Number(element.threshold.value).toFixed(2);
  element["threshold-value"].textContent = threshold;
  if (!current) return;
  document.querySelector("main").classList.add("found");
  element.drop.hidden = true;
  element.result.hidden = element.panel.hidden = false;
  const detections = shown();
  if (!detections.includes(chosen)) chosen = null;
  showClasses();
  showRows(detections);
  draw();
  const count = counted(detections);
  element.canvas.setAttribute("aria-label", `${current.name} with ${count}`);
  const note = current.image ? "" : " (this browser cannot show this format)";
  const time = current.milliseconds ? `, detected in ${current.milliseconds.toFixed(0)} ms` : "";
  element.caption.replaceChildren(
    newElement("span", `${current.name}${note}`),
    newElement("span", `${current.width} × ${current.height} pixels, ${count}${time}`),
  );
  showStatus(`${count} in ${current.name} at a threshold of ${threshold}`, true);
}

function counted(detections) {
  return `${detections.length} ${detections.length === 1 ? "object" : "objects"}`;
}

/** A button for each detected class, the best first; buttons of hidden classes stay. */
function showClasses() {
  const threshold = Number(element.threshold.value);
  const counts = new Map();
  for (const { label, name, score } of current.detections) {
    const reaches = score >= threshold;
    if (!reaches && !hidden.has(label)) continue;
    const entry = counts.get(label) ?? { name, count: 0 };
    counts.set(label, { name, count: entry.count + reaches });
  }
  const focused = document.activeElement?.dataset?.label;
  const buttons = [...counts].map(([label, { name, count }]) => {
    const dot = newCanvas(8, 8);
    dot.getContext("2d").fillStyle = classColor(label);
    dot.getContext("2d").fillRect(0, 0, 8, 8);
    dot.setAttribute("aria-hidden", "true");
    const button = newElement("button", dot, name, newElement("span", String(count)));
    button.type = "button";
    button.dataset.label = label;
    button.setAttribute("aria-pressed", String(!hidden.has(label)));
    button.addEventListener("click", () => {
      if (!hidden.delete(label)) hidden.add(label);
      show();
    });
    return button;
  });
  element.classes.replaceChildren(...buttons);
  if (focused) buttons.find((each) => each.dataset.label === focused)?.focus();
  element["classes-field"].hidden = !buttons.length;
  element["all-classes"].hidden = !hidden.size;
}

/** The table. A row highlights its box under the pointer or with the focus. */
function showRows(detections) {
  element.rows.replaceChildren(
    ...detections.map((each, i) => {
      const name = newElement("th", each.name);
      name.scope = "row";
      const sides = [each.x, each.y, each.width, each.height].map((side) => side.toFixed(0));
      const cells = [each.score.toFixed(2), ...sides].map((text) => newElement("td", text));
      const row = newElement("tr", name, ...cells);
      row.tabIndex = i ? -1 : 0; // arrow keys move to others
      for (const kind of ["pointerenter", "focus"]) row.addEventListener(kind, () => choose(each));
      for (const kind of ["pointerleave", "blur"]) row.addEventListener(kind, () => choose(null));
      return row;
    }),
  );
  element.none.hidden = detections.length > 0;
}
element.rows.addEventListener("keydown", (event) => {
  const row = event.target.closest("tr");
  const next = { ArrowDown: row?.nextElementSibling, ArrowUp: row?.previousElementSibling };
  if (!next[event.key]) return;
  event.preventDefault();
  row.tabIndex = -1;
  next[event.key].tabIndex = 0;
  next[event.key].focus();
});

function choose(detection) {
  chosen = detection;
  draw();
}

/** Draws the image and its boxes in the available space, in pixels of the screen. */
function draw() {
  if (!current) return;
  const room = element.result.clientWidth;
  const most = Math.max(240, innerHeight * 0.72);
  const size = Math.min(room / current.width, most / current.height);
  const side = (length) => Math.max(1, Math.round(length * size * devicePixelRatio));
  const canvas = element.canvas;
  canvas.width = side(current.width);
  canvas.height = side(current.height);
  canvas.style.width = `${canvas.width / devicePixelRatio}px`;
  // The coloured buttons of the classes are the legend.
  const imageSize = { width: canvas.width, height: canvas.height };
  const context = canvas.getContext("2d");
  const scale = canvas.width / current.width;
  const layout = layOut(context, imageSize, shown(), scale, 12 * devicePixelRatio);
  paint(canvas, layout, chosen);
}

function paint(canvas, layout, chosen = null) {
  const context = canvas.getContext("2d");
  const { width, height } = layout.size;
  context.fillStyle = "#fff"; // behind the legend and transparent pixels
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#8a949e";
  if (!current.image) context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  if (current.image) context.drawImage(current.image, 0, 0, width, height);
  drawBoxes(canvas, layout, chosen);
}

// Saving the visible detections.

element["save-json"].addEventListener("click", () => {
  const scores = Number(element.threshold.value);
  const labels = new Map(current.answer.categories.map((each, i) => [each.id, i + 1]));
  const annotations = current.answer.annotations.filter(
    (each) => each.score >= scores && !hidden.has(labels.get(each.category_id)),
  );
  const text = JSON.stringify({ ...current.answer, annotations }, null, 1);
  save(new Blob([text], { type: "application/json" }), "detections.json");
});
element["save-image"].addEventListener("click", () => {
  const { width, height } = current;
  const enlarged = Math.max(1, DRAWN_SIDE / Math.max(width, height));
  const scale = Math.min(enlarged, Math.sqrt(MAX_CANVAS / (width * height)));
  const side = (length) => Math.max(1, Math.round(length * scale));
  const size = { width: side(width), height: side(height) };
  const layout = layOut(newCanvas(1, 1).getContext("2d"), size, shown(), scale);
  const canvas = newCanvas(size.width, Math.ceil(layout.height));
  paint(canvas, layout);
  const stem = current.name.replace(/\.[^.]*$/, "");
  canvas.toBlob((blob) => save(blob, `${stem}_detections.png`), "image/png");
});

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Messages.

function showError(text) {
  element.error.querySelector("p").textContent = text;
  element.error.hidden = !text;
}
element.error.querySelector("button").addEventListener("click", () => showError(""));

/** Shows a status over the image, or only to screen readers. */
function showStatus(text, quiet = false) {
  element.status.textContent = text;
  element.status.className = quiet ? "quiet" : "busy";
}

function newElement(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

show();
showError("");
ready.catch((error) => showError(error.message));
