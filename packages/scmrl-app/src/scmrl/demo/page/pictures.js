// Draws the bytes that the server sends; nothing here knows of requests.

const WIDTH = 384; // pixels of a picture's canvas

export function bytes(text) {
  return Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
}

// A plane as a small canvas of its own size; `color(r, g, b)` gives what a pixel becomes.
function tile(plane, color) {
  const data = bytes(plane.data);
  const canvas = document.createElement("canvas");
  canvas.width = plane.width;
  canvas.height = plane.height;
  const image = new ImageData(plane.width, plane.height);
  for (let pixel = 0; pixel < plane.width * plane.height; pixel++) {
    const at = pixel * plane.channels;
    const last = plane.channels - 1;
    image.data.set(color(data[at], data[at + Math.min(1, last)], data[at + last]), 4 * pixel);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Pictures that are very long or very tall are stretched: a channel of 700 needs no 700 lines of the page.
function shape(plane) {
  const ratio = Math.min(2, Math.max(0.8, plane.width / plane.height));
  return [WIDTH, Math.round(WIDTH / ratio)];
}

// What a sense gave, and over it where it was read: the redder, the more.
export function paint(canvas, frame, overlay, flipped) {
  [canvas.width, canvas.height] = shape(frame);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  if (flipped) context.setTransform(1, 0, 0, -1, 0, canvas.height);
  context.drawImage(tile(frame, (r, g, b) => [r, g, b, 255]), 0, 0, canvas.width, canvas.height);
  if (!overlay) return;
  const heat = tile(overlay, (value) => [255, 70, 0, (0.75 * value * value) / 255]);
  context.drawImage(heat, 0, 0, canvas.width, canvas.height);
}

// Which units of a layer fire: one pixel a unit and time step, in the color of the text.
export function paintRaster(canvas, raster, color) {
  canvas.width = raster.width;
  canvas.height = raster.height;
  const drawn = tile(raster, (value) => [...color, value]);
  canvas.getContext("2d").drawImage(drawn, 0, 0);
}

// One bar a time step.
export function paintSteps(canvas, values, most, color) {
  const [step, gap, height] = [28, 6, 90];
  canvas.width = values.length * step;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.fillStyle = `rgb(${color.join(" ")})`;
  values.forEach((value, at) => {
    const size = Math.max(1, (value / (most || 1)) * height);
    context.fillRect(at * step + gap / 2, height - size, step - gap, size);
  });
}

// The numbers of a color that the style sheet names.
export function colorOf(element) {
  return getComputedStyle(element).color.match(/[\d.]+/g).slice(0, 3).map(Number);
}
