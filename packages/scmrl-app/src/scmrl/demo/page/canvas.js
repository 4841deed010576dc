// Paints the planes that the server sends on canvases.

const WIDTH = 384; // pixels of an image's canvas

function decode(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

// Returns a plane as a canvas of the same size; `color(r, g, b)` maps a pixel to RGBA.
function toCanvas(plane, color) {
  const data = decode(plane.data);
  const canvas = document.createElement("canvas");
  canvas.width = plane.width;
  canvas.height = plane.height;
  const image = new ImageData(plane.width, plane.height);
  for (let pixel = 0; pixel < plane.width * plane.height; pixel++) {
    const start = pixel * plane.channels;
    const last = plane.channels - 1;
    image.data.set(color(data[start], data[start + Math.min(1, last)], data[start + last]), 4 * pixel);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Very long or tall images are stretched: 700 channels do not need 700 lines of the page.
function canvasSize(plane) {
  const ratio = Math.min(2, Math.max(0.8, plane.width / plane.height));
  return [WIDTH, Math.round(WIDTH / ratio)];
}

// Paints an input and an overlay, which is more opaque red for larger values.
export function paintFrame(canvas, frame, overlay, flipped) {
  [canvas.width, canvas.height] = canvasSize(frame);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  if (flipped) context.setTransform(1, 0, 0, -1, 0, canvas.height);
  context.drawImage(toCanvas(frame, (r, g, b) => [r, g, b, 255]), 0, 0, canvas.width, canvas.height);
  if (!overlay) return;
  const heat = toCanvas(overlay, (value) => [255, 70, 0, (0.75 * value * value) / 255]);
  context.drawImage(heat, 0, 0, canvas.width, canvas.height);
}

// Paints spikes: one pixel per unit and time step.
export function paintRaster(canvas, raster, color) {
  canvas.width = raster.width;
  canvas.height = raster.height;
  canvas.getContext("2d").drawImage(toCanvas(raster, (value) => [...color, value]), 0, 0);
}

// Paints one bar per time step.
export function paintBars(canvas, values, maximum, color) {
  const [step, gap, height] = [28, 6, 90];
  canvas.width = values.length * step;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.fillStyle = `rgb(${color.join(" ")})`;
  values.forEach((value, index) => {
    const size = Math.max(1, (value / (maximum || 1)) * height);
    context.fillRect(index * step + gap / 2, height - size, step - gap, size);
  });
}

// Returns the RGB values of an element's text color.
export function colorOf(element) {
  return getComputedStyle(element).color.match(/[\d.]+/g).slice(0, 3).map(Number);
}
