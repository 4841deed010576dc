// Shows a prediction and its explanation: headline, class probabilities, contributions, spikes and residuals.
import { $, element, percent } from "/elements.js";
import { colorOf, paintBars, paintRaster } from "/canvas.js";

const MAX_CLASSES = 12; // classes with a bar

// `unperturbed`: probabilities without noise and muting, if either is active.
export function showPrediction(run, { probabilities, label }, unperturbed) {
  const classes = [...run.classes.keys()];
  const ranked = classes.toSorted((a, b) => probabilities[b] - probabilities[a]);
  const best = ranked[0];
  const headline = ["Prediction: ", element("strong", { textContent: run.classes[best] }), `, ${percent(probabilities[best])}`];
  if (label !== null) {
    const correct = label === best;
    const verdict = correct ? "correct" : `wrong, true class ${run.classes[label]}`;
    headline.push(", ", element("span", { className: correct ? "correct" : "wrong", textContent: verdict }));
  }
  $("prediction").replaceChildren(...headline);
  const listed = classes.length > MAX_CLASSES ? ranked.slice(0, MAX_CLASSES) : classes;
  $("classes").replaceChildren(
    ...listed.map((index) => {
      const share = probabilities[index];
      const bar = createBar(run.classes[index], 0, share, percent(share));
      bar.classList.toggle("best", index === best);
      if (unperturbed) {
        const tick = element("span", { className: "tick" });
        tick.style.left = `${100 * unperturbed[index]}%`;
        bar.querySelector(".track").append(tick);
      }
      return bar;
    }),
  );
  $("tick-legend").hidden = !unperturbed;
  const rest = ranked.slice(listed.length).reduce((sum, index) => sum + probabilities[index], 0);
  $("rest").hidden = listed.length === classes.length;
  $("rest").textContent = `The other ${classes.length - listed.length} classes together: ${percent(rest)}`;
}

let current = null; // the last explanation, redrawn when the color scheme changes

export function showExplanation(run, explanation) {
  current = explanation;
  showContributions(run, explanation.contributions);
  showRasters(explanation.rasters);
  showResiduals(explanation.residuals);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (!current) return;
  showRasters(current.rasters);
  showResiduals(current.residuals);
});

function showContributions(run, contributions) {
  $("contributions").replaceChildren(
    ...run.modalities.flatMap((modality, index) => {
      const value = contributions[modality.name];
      if (value === undefined) return [];
      const [from, to] = [0.5 + Math.min(0, value) / 2, 0.5 + Math.max(0, value) / 2];
      const bar = createBar(modality.name, from, to, `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`);
      bar.querySelector(".fill").style.background = `var(--m${index % 6})`;
      bar.querySelector(".track").append(element("span", { className: "zero" }));
      return [bar];
    }),
  );
}

function createBar(name, from, to, text) {
  const fill = element("span", { className: "fill" });
  fill.style.left = `${100 * from}%`;
  fill.style.width = `${100 * (to - from)}%`;
  const track = element("span", { className: "track" }, fill);
  track.setAttribute("aria-hidden", "true");
  const label = element("span", { className: "label", textContent: name, title: name });
  return element("li", { className: "bar" }, label, track, element("span", { className: "value", textContent: text }));
}

// Splits a layer's name into its group, an encoder or a (target, source) pair, and the rest.
function splitLayer(layer) {
  const parts = layer.split(".");
  const depth = parts[0] === "encoders" ? 1 : Math.min(3, parts.length - 1);
  return [parts[Math.max(0, depth - 1)].replaceAll("_", " "), parts.slice(depth).join(" ")];
}

function showRasters(rasters) {
  const groups = Map.groupBy(rasters, (raster) => splitLayer(raster.layer)[0]);
  $("rasters").replaceChildren(
    ...[...groups].map(([name, members]) => {
      const boxes = element("div", { className: "boxes" }, ...members.map(rasterFigure));
      return element("section", {}, element("h3", { textContent: name }), boxes);
    }),
  );
}

function rasterFigure(raster) {
  const canvas = labeledCanvas(
    `${raster.layer}: firing rate ${percent(raster.rate)}, ${raster.height} neurons, ${raster.width} time steps`,
  );
  paintRaster(canvas, raster, colorOf($("inside")));
  const caption = element("figcaption", {}, splitLayer(raster.layer)[1], element("br"), percent(raster.rate));
  return element("figure", { title: raster.layer }, canvas, caption);
}

function showResiduals(residuals) {
  $("residual-section").hidden = !residuals.length;
  const maximum = Math.max(...residuals.flatMap((each) => each.steps));
  $("residuals").replaceChildren(
    ...residuals.map((each) => {
      const title = `${each.target} reads ${each.source}`;
      const canvas = labeledCanvas(`${title}: ${each.steps.map((value) => value.toPrecision(2)).join(", ")}`);
      paintBars(canvas, each.steps, maximum, colorOf($("residuals")));
      const last = each.steps.at(-1).toPrecision(2);
      return element("figure", {}, canvas, element("figcaption", { textContent: `${title}, ${last} in the last step` }));
    }),
  );
}

function labeledCanvas(text) {
  const canvas = element("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text);
  return canvas;
}
