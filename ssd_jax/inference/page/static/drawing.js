// Draws boxes with labels, as ssd_jax/images/drawing.py does.

/** A bright colour of its own for every class: hues a golden section of a turn apart. */
export function classColor(label) {
  const hue = ((label * 0.61803398875) % 1) * 6;
  const channel = (offset) => {
    const k = (offset + hue) % 6;
    return Math.round(255 * (1 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return `rgb(${channel(5)}, ${channel(3)}, ${channel(1)})`;
}

/**
 * Draws detections onto a canvas that has the image on it already.
 *
 * detections: the best first, each with x, y, width and height in pixels of the image, label, name
 * and score. scale: pixels of the canvas per pixel of the image. chosen: is drawn wider. least: the
 * smallest size of letters in pixels.
 */
export function drawBoxes(canvas, detections, scale, { chosen = null, least = 10 } = {}) {
  const context = canvas.getContext("2d");
  const unit = Math.sqrt(canvas.width * canvas.height) / 100;
  const lineWidth = Math.max(2, Math.round(unit * 0.4));
  const fontSize = Math.max(least, Math.round(unit * 3));
  const boxes = detections.map((each) => ({
    x: each.x * scale,
    y: each.y * scale,
    width: each.width * scale,
    height: each.height * scale,
  }));
  // Boxes before labels, so that no line crosses a name; the best last, on top of the others.
  for (let i = boxes.length - 1; i >= 0; i--) {
    const { x, y, width, height } = boxes[i];
    const line = detections[i] === chosen ? 2 * lineWidth : lineWidth;
    context.globalAlpha = chosen && detections[i] !== chosen ? 0.35 : 1;
    context.lineWidth = line;
    context.strokeStyle = classColor(detections[i].label);
    const inside = (side) => Math.max(side - line, 1);
    context.strokeRect(x + line / 2, y + line / 2, inside(width), inside(height));
  }
  context.font = `${fontSize}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const texts = detections.map((each) => `${each.name} ${each.score.toFixed(2)}`);
  const places = placeLabels(
    texts.map((text) => context.measureText(text).width + 0.4 * fontSize),
    1.25 * fontSize,
    boxes,
    canvas,
  );
  for (let i = boxes.length - 1; i >= 0; i--) {
    const { x, y, width, height } = places[i];
    context.globalAlpha = chosen && detections[i] !== chosen ? 0.35 : 1;
    context.fillStyle = classColor(detections[i].label);
    context.fillRect(x, y, width, height);
    context.fillStyle = "#000";
    context.fillText(texts[i], x + 0.2 * fontSize, y + height / 2);
  }
  context.globalAlpha = 1;
}

/** Above the box, or at its top, its bottom or below it: the first that is free. */
function placeLabels(widths, height, boxes, canvas) {
  const places = [];
  boxes.forEach((box, i) => {
    const width = widths[i];
    const x = Math.min(Math.max(box.x, 0), Math.max(canvas.width - width, 0));
    const bottom = box.y + box.height;
    let choices = [box.y - height, box.y, bottom - height, bottom]
      .filter((y) => 0 <= y && y <= canvas.height - height)
      .map((y) => ({ x, y, width, height }));
    if (!choices.length) choices = [{ x, y: 0, width, height }];
    places.push(choices.find((choice) => !places.some((p) => overlap(choice, p))) ?? choices[0]);
  });
  return places;
}

function overlap(a, b) {
  return (
    a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
  );
}
