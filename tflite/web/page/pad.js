// The data set's digits were scanned as 32 by 32 bitmaps, as high as the frame, and then reduced to
// 8 by 8 by counting the ink in each 4 by 4 block. A drawing goes the same way.
const SCAN = 32;
const PIXELS = 8;
const BLOCK = SCAN / PIXELS;
const WIDEST = 24;
const INK = 0.3 * SCAN * SCAN; // about the same in all of the digits: 4.9 of 16 a pixel

/** Turns a drawing into the net's pixels: strokes of points [x, y] into 64 numbers, 0 to 16. */
export function scan(strokes) {
  const pixels = new Array(PIXELS * PIXELS).fill(0);
  if (!strokes.length) return pixels;
  const points = strokes.flat();
  const [left, right] = range(points.map(([x]) => x));
  const [top, bottom] = range(points.map(([, y]) => y));
  const width = right - left;
  const height = bottom - top;
  const size = Math.max(height, (width * SCAN) / WIDEST, 1e-3);
  const thickness = Math.min(8, Math.max(3, INK / ((length(strokes) / size) * (SCAN - 4))));
  const scale = (SCAN - thickness) / size;
  const place = ([x, y]) => [
    SCAN / 2 + (x - left - width / 2) * scale,
    SCAN / 2 + (y - top - height / 2) * scale,
  ];
  const context = new OffscreenCanvas(SCAN, SCAN).getContext("2d", { willReadFrequently: true });
  trace(context, strokes.map((stroke) => stroke.map(place)), thickness);
  const { data } = context.getImageData(0, 0, SCAN, SCAN);
  for (let i = 0; i < SCAN * SCAN; i++) {
    const column = Math.floor((i % SCAN) / BLOCK);
    const row = Math.floor(i / SCAN / BLOCK);
    pixels[row * PIXELS + column] += data[4 * i + 3] / 255;
  }
  return pixels.map(Math.round);
}

/** Shows 64 pixels, 0 to 16, on a canvas of 8 by 8. */
export function show(canvas, pixels) {
  const image = new ImageData(PIXELS, PIXELS);
  pixels.forEach((pixel, i) => image.data.set([255, 255, 255, (255 * pixel) / 16], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** A canvas to draw on with mouse, pen, finger or keyboard; `changed` gets the strokes. */
export class Pad {
  #canvas;
  #changed;
  #strokes = [];
  #pen = [0.5, 0.5];
  #down = false;

  constructor(canvas, changed) {
    this.#canvas = canvas;
    this.#changed = changed;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#begin(this.#at(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#move(this.#at(event));
    });
    canvas.addEventListener("lostpointercapture", () => this.#lift());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focus", () => this.#draw());
    canvas.addEventListener("blur", () => this.#lift());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** Removes the drawing and tells nobody. */
  clear() {
    this.#strokes = [];
    this.#lift();
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #begin(point) {
    this.#down = true;
    this.#strokes.push([]);
    this.#move(point);
  }

  #move(point) {
    this.#pen = point;
    if (this.#down) {
      this.#strokes.at(-1).push(point);
      this.#changed(this.#strokes);
    }
    this.#draw();
  }

  #lift() {
    this.#down = false;
    this.#draw();
  }

  #key(event) {
    const step = STEPS[event.key];
    if (step) {
      this.#move(this.#pen.map((value, i) => Math.min(0.95, Math.max(0.05, value + step[i]))));
    } else if (event.key === " ") {
      if (this.#down) this.#lift();
      else this.#begin(this.#pen);
    } else if (event.key === "Escape") {
      this.clear();
      this.#changed(this.#strokes);
    } else {
      return;
    }
    event.preventDefault();
  }

  #draw() {
    const { width } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    const style = getComputedStyle(this.#canvas);
    context.clearRect(0, 0, width, width);
    context.strokeStyle = style.color;
    trace(context, this.#strokes.map((stroke) => stroke.map(([x, y]) => [x * width, y * width])), width / 12);
    if (this.#canvas.matches(":focus-visible")) {
      context.fillStyle = this.#down ? "#d9480f" : style.outlineColor;
      context.beginPath();
      context.arc(this.#pen[0] * width, this.#pen[1] * width, width / 40, 0, 2 * Math.PI);
      context.fill();
    }
  }
}

const STEP = 0.05;
const STEPS = {
  ArrowLeft: [-STEP, 0],
  ArrowRight: [STEP, 0],
  ArrowUp: [0, -STEP],
  ArrowDown: [0, STEP],
};

function trace(context, strokes, thickness) {
  context.lineWidth = thickness;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const [first, ...rest] of strokes) {
    context.moveTo(...first);
    context.lineTo(...first); // makes a dot of a single point
    for (const point of rest) context.lineTo(...point);
  }
  context.stroke();
}

function range(values) {
  return [Math.min(...values), Math.max(...values)];
}

function length(strokes) {
  let sum = 0;
  for (const stroke of strokes) {
    for (let i = 1; i < stroke.length; i++) {
      sum += Math.hypot(stroke[i][0] - stroke[i - 1][0], stroke[i][1] - stroke[i - 1][1]);
    }
  }
  return sum;
}
