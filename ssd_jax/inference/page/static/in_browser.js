// Detects in the browser, with onnxruntime-web: `detecting.js` of `ssd-jax export --to=web`.

const RUNTIME = "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
const STRIP_PIXELS = 4_000_000; // pixels of an image to read at a time

export const isLocal = true;

/** The runtime, the detector, and its description. */
export const ready = load();

let last = Promise.resolve(); // the running detection: the runtime allows one at a time

async function load() {
  const parts = [importRuntime(), fetched("detector.onnx"), fetched("detector.json")];
  const [runtime, model, about] = await Promise.all(parts);
  const session = await runtime.InferenceSession.create(await model.arrayBuffer());
  const { classes, image_size } = await about.json();
  const side = Number(image_size);
  await run(runtime, session, new Uint8Array(side * side * 3), side); // the first run takes longer
  return { runtime, session, classes: JSON.parse(classes), side };
}

async function importRuntime() {
  try {
    return await import(RUNTIME);
  } catch {
    throw new Error(
      "onnxruntime-web is missing. Run `npm install --prefix=. onnxruntime-web` in the folder of " +
        "this page, and load the page again.",
    );
  }
}

async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} cannot be loaded: status ${response.status}.`);
  return response;
}

/**
 * The detections in a file or a canvas, in the form of detections.json, and the time in
 * milliseconds.
 */
export async function detectIn(file, signal) {
  const detector = await ready;
  // Like other programs: without conversion by a colour profile.
  const image = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error("this browser cannot read this format, or it is damaged.");
  });
  try {
    const next = last.then(() => (signal.aborted ? null : detect(detector, image, file.name ?? "")));
    last = next.catch(() => {});
    return await next;
  } finally {
    image.close();
  }
}

async function detect({ runtime, session, classes, side }, image, name) {
  const start = performance.now();
  const { boxes, scores, labels } = await run(runtime, session, toSquare(image, side), side);
  const milliseconds = performance.now() - start;
  const { width, height } = image;
  const annotations = [];
  for (let i = 0; i < labels.data.length && labels.data[i] > 0; i++) {
    const [left, top, right, bottom] = boxes.data.subarray(4 * i, 4 * i + 4);
    const bbox = [left * width, top * height, (right - left) * width, (bottom - top) * height];
    annotations.push({
      id: i + 1,
      image_id: 1,
      category_id: classes[labels.data[i] - 1].id,
      bbox: bbox.map(thousandths),
      area: thousandths(bbox[2] * bbox[3]),
      iscrowd: 0,
      score: Math.round(1e6 * scores.data[i]) / 1e6,
    });
  }
  const images = [{ id: 1, file_name: name, width, height }];
  return { answer: { images, annotations, categories: classes, errors: [] }, milliseconds };
}

/** Boxes, scores and labels of a square image, [side, side, 3] RGB. */
function run(runtime, session, pixels, side) {
  return session.run({ images: new runtime.Tensor("uint8", pixels, [1, side, side, 3]) });
}

function thousandths(number) {
  return Math.round(1000 * number) / 1000;
}

/**
 * Resizes bilinearly without antialiasing, to the same bytes as ssd_jax/images/resizing.py: canvases
 * smooth, each browser in its own way. Gives [side, side, 3] RGB.
 */
export function toSquare(image, side) {
  const { width, height } = image;
  const rows = neighbours(height, side);
  const columns = neighbours(width, side);
  const step = Math.min(height, Math.max(2, Math.floor(STRIP_PIXELS / width)));
  const canvas = new OffscreenCanvas(width, step);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const square = new Uint8Array(side * side * 3);
  for (let y = 0; y < side; ) {
    const first = Math.min(rows.first[y], height - step);
    context.fillStyle = "#fff"; // behind transparent pixels
    context.fillRect(0, 0, width, step);
    context.drawImage(image, 0, -first);
    const { data } = context.getImageData(0, 0, width, step);
    for (; y < side && rows.second[y] < first + step; y++) {
      const above = 4 * width * (rows.first[y] - first);
      const below = 4 * width * (rows.second[y] - first);
      const at = (x, channel) => {
        const place = 4 * x + channel;
        return blend(data[above + place], data[below + place], rows.weight[y]);
      };
      for (let x = 0, i = 3 * side * y; x < side; x++) {
        const [left, right, weight] = [columns.first[x], columns.second[x], columns.weight[x]];
        for (let channel = 0; channel < 3; channel++) {
          square[i++] = rounded(blend(at(left, channel), at(right, channel), weight));
        }
      }
    }
  }
  return square;
}

/** For each new pixel, the two old pixels around its centre, and the weight of the second. */
function neighbours(length, side) {
  const [first, second] = [new Int32Array(side), new Int32Array(side)];
  const weight = new Float32Array(side);
  for (let i = 0; i < side; i++) {
    const centre = Math.min(Math.max((i + 0.5) * (length / side) - 0.5, 0), length - 1);
    first[i] = Math.floor(centre);
    second[i] = Math.min(first[i] + 1, length - 1);
    weight[i] = centre - first[i];
  }
  return { first, second, weight };
}

/** Rounds to float32 after each operation. */
function blend(first, second, weight) {
  return Math.fround(first + Math.fround(Math.fround(second - first) * weight));
}

/** Rounds halves to even, like NumPy. */
function rounded(number) {
  const nearest = Math.round(number);
  return nearest - number === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}
