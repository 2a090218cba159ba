// Draws boxes with names or a legend, like ssd_jax/images/drawing.py and labels.py.

/** A different bright colour for each class: hues differ by the golden ratio of a turn. */
export function classColor(label) {
  const hue = ((label * 0.61803398875) % 1) * 6;
  const channel = (offset) => {
    const k = (offset + hue) % 6;
    return Math.round(255 * (1 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return `rgb(${channel(5)}, ${channel(3)}, ${channel(1)})`;
}

const MOST_COVERED = 0.25; // the share of an object, or of another name, that names may cover

/**
 * Lays out detections for an image, with its width and height in pixels of the canvas.
 *
 * detections: the best first, each with x, y, width and height in pixels of the image, label, name
 * and score. scale: pixels of the canvas per pixel of the image. least: the smallest font size in
 * pixels. Returns `legend`, the names of classes below the image, empty if names are next to the
 * boxes, and `height`, the height of the image with the legend.
 */
export function layOut(context, size, detections, scale, least = 10) {
  const unit = Math.sqrt(size.width * size.height) / 100;
  const fontSize = Math.max(least, Math.round(unit * 3));
  const font = `${fontSize}px system-ui, sans-serif`;
  const boxes = detections.map((each) => ({
    x: each.x * scale,
    y: each.y * scale,
    width: each.width * scale,
    height: each.height * scale,
  }));
  context.font = font;
  const measure = (text) => context.measureText(text).width + 0.4 * fontSize;
  const texts = detections.map((each) => `${each.name} ${each.score.toFixed(2)}`);
  const places = placeLabels(texts.map(measure), 1.25 * fontSize, boxes, size);
  const names = places.map((place, i) => ({ ...place, text: texts[i], label: detections[i].label }));
  const isCrowded = [...covered(boxes, places), ...covered(places)].some((v) => v > MOST_COVERED);
  const legend = isCrowded ? layOutLegend(detections, measure, fontSize, size) : [];
  const last = legend[legend.length - 1];
  const height = size.height + (last ? last.y + last.height + fontSize / 3 - size.height : 0);
  return { detections, boxes, names, legend, isCrowded, font, fontSize, unit, size, height };
}

/** Draws boxes, and names next to them, or the legend if there is space for it. */
export function drawBoxes(canvas, layout, chosen = null) {
  const context = canvas.getContext("2d");
  const { boxes, detections, unit } = layout;
  const most = Math.max(2, Math.ceil(unit / 2));
  const fade = (i) => (chosen && detections[i] !== chosen ? 0.35 : 1);
  const lines = boxes.map(({ width, height }) => {
    const side = Math.min(width, height);
    return Math.min(Math.max(Math.round(0.15 * side), 2, Math.ceil(most / 3)), most);
  });
  // Boxes before labels, so that no line crosses a name; the best box last, on top of others.
  for (let i = boxes.length - 1; i >= 0; i--) {
    context.globalAlpha = fade(i);
    const wider = detections[i] === chosen ? 2 : 1;
    const box = inset(boxes, i, lines[i]);
    drawBox(context, box, classColor(detections[i].label), lines[i] * wider, layout.size);
  }
  context.font = layout.font;
  context.textBaseline = "middle";
  for (let i = boxes.length - 1; i >= 0; i--) {
    if (layout.isCrowded && detections[i] !== chosen) continue;
    context.globalAlpha = fade(i);
    drawLabel(context, layout.names[i], layout.fontSize);
  }
  context.globalAlpha = 1;
  if (canvas.height > layout.size.height) {
    for (const entry of layout.legend) drawLabel(context, entry, layout.fontSize);
  }
}

/** The drawn box: smaller if it is on earlier ones, so that they do not hide it. */
function inset(boxes, i, line) {
  const { x, y, width, height } = boxes[i];
  const corners = (box) => [box.x, box.y, box.x + box.width, box.y + box.height];
  const own = corners(boxes[i]);
  const isNear = (other) => corners(other).every((each, n) => Math.abs(each - own[n]) < line);
  const beyond = boxes.slice(0, i).filter(isNear).length * (line + blackWidth(line));
  const by = Math.min(beyond, Math.floor(Math.min(width, height) / 3));
  return { x: x + by, y: y + by, width: width - 2 * by, height: height - 2 * by };
}

function blackWidth(line) {
  return Math.max(1, Math.floor(line / 4));
}

/** Draws a coloured line around a box and a black line around it, inside the image. */
function drawBox(context, box, color, line, size) {
  const black = blackWidth(line);
  const stroke = (style, width, beyond) => {
    const left = Math.max(Math.trunc(box.x) - beyond, 0);
    const top = Math.max(Math.trunc(box.y) - beyond, 0);
    const right = Math.min(Math.trunc(box.x + box.width) + 1 + beyond, size.width);
    const bottom = Math.min(Math.trunc(box.y + box.height) + 1 + beyond, size.height);
    const inside = (length) => Math.max(length - width, 1);
    context.lineWidth = width;
    context.strokeStyle = style;
    context.strokeRect(left + width / 2, top + width / 2, inside(right - left), inside(bottom - top));
  };
  stroke("#000", black, line + black - 1);
  stroke(color, line, line - 1);
}

function drawLabel(context, { x, y, width, height, text, label }, fontSize) {
  context.fillStyle = classColor(label);
  context.fillRect(x, y, width, height);
  context.fillStyle = "#000";
  context.fillText(text, x + 0.2 * fontSize, y + height / 2);
}

/** Classes with their numbers and scores, the most frequent first, in rows below the image. */
function layOutLegend(detections, measure, fontSize, size) {
  const classes = new Map();
  for (const { label, name, score } of detections) {
    if (!classes.has(label)) classes.set(label, { label, name, scores: [] });
    classes.get(label).scores.push(score);
  }
  const gap = fontSize / 3;
  const height = 1.25 * fontSize;
  let x = 0;
  let y = size.height + gap;
  const ordered = [...classes.values()].sort((a, b) => b.scores.length - a.scores.length);
  return ordered.map(({ label, name, scores }) => {
    const [least, most] = [Math.min(...scores), Math.max(...scores)].map((each) => each.toFixed(2));
    const text = `${name} ${scores.length} (${least === most ? least : `${least}-${most}`})`;
    const width = measure(text);
    if (x && x + width > size.width) {
      x = 0;
      y += height + gap;
    }
    const entry = { x, y, width, height, text, label };
    x += width + gap;
    return entry;
  });
}

/** The share of each area that others cover: labels of boxes, or labels of each other. */
function covered(areas, labels = areas) {
  return areas.map((area) => {
    const others = labels.filter((label) => label !== area);
    const sum = others.reduce((total, label) => total + common(area, label), 0);
    return sum / Math.max(area.width * area.height, 1);
  });
}

/** The corners of a box, outside and inside: what is free and covers least of the objects. */
function placeLabels(widths, height, boxes, size) {
  const places = [];
  boxes.forEach((box, i) => {
    const width = widths[i];
    const [left, right] = [box.x, box.x + box.width];
    const [top, bottom] = [box.y, box.y + box.height];
    const [most, lowest] = [Math.max(size.width - width, 0), size.height - height];
    const along = (x) => Math.min(Math.max(x, 0), most);
    const [atLeft, atRight] = [along(left), along(right - width)];
    const corners = [
      ...[top - height, bottom].flatMap((y) => [[atLeft, y], [atRight, y]]), // outside
      ...[atLeft, atRight].flatMap((x) => [[x, top], [x, bottom - height]]), // inside
      ...[top, bottom - height].flatMap((y) => [[right, y], [left - width, y]]), // beside
    ];
    const fitting = corners.filter(([x, y]) => x >= 0 && x <= most && y >= 0 && y <= lowest);
    const choices = (fitting.length ? fitting : [[atLeft, 0]]).map(([x, y]) => {
      return { x, y, width, height };
    });
    const cost = (choice) => {
      const taken = places.some((place) => common(choice, place)) ? boxes.length + 1 : 0;
      const share = (each) => common(choice, each) / Math.max(each.width * each.height, 1);
      const sum = boxes.reduce((total, each) => total + share(each), taken);
      return Math.round(1000 * sum);
    };
    const costs = choices.map(cost);
    places.push(choices[costs.indexOf(Math.min(...costs))]);
  });
  return places;
}

/** The area of the intersection of two rectangles. */
function common(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return Math.max(width, 0) * Math.max(height, 0);
}
