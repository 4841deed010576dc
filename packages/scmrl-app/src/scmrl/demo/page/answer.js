// What the model says: the answer in a line, bars of classes and senses, and what fired inside.
import { $, element, percent } from "/elements.js";
import { colorOf, paintRaster, paintSteps } from "/pictures.js";

const SHOWN = 12; // classes with a bar

// `before`: the probabilities before anything was disturbed, if something is.
export function showAnswer(run, { probabilities, label }, before) {
  const every = [...run.classes.keys()];
  const ranked = every.toSorted((a, b) => probabilities[b] - probabilities[a]);
  const best = ranked[0];
  const said = ["It says ", element("strong", { textContent: run.classes[best] }), `, ${percent(probabilities[best])} sure`];
  if (label !== null) {
    const right = label === best;
    const verdict = right ? "which is right" : `but it is ${run.classes[label]}`;
    said.push(", ", element("span", { className: right ? "right" : "wrong", textContent: verdict }));
  }
  $("said").replaceChildren(...said);
  const shown = every.length > SHOWN ? ranked.slice(0, SHOWN) : every;
  $("classes").replaceChildren(
    ...shown.map((at) => {
      const share = probabilities[at];
      const bar = barOf(run.classes[at], 0, share, percent(share));
      bar.classList.toggle("best", at === best);
      if (before) {
        const tick = element("span", { className: "before" });
        tick.style.left = `${100 * before[at]}%`;
        bar.querySelector(".track").append(tick);
      }
      return bar;
    }),
  );
  $("tick").hidden = !before;
  const rest = ranked.slice(shown.length).reduce((sum, at) => sum + probabilities[at], 0);
  $("rest").hidden = shown.length === every.length;
  $("rest").textContent = `The other ${every.length - shown.length} classes together: ${percent(rest)}`;
}

let shown = null; // the last explanation, which is drawn again in other colors

export function showExplanation(run, explanation) {
  shown = explanation;
  showContributions(run, explanation.contribution);
  showRasters(explanation.rasters);
  showResiduals(explanation.residuals);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (!shown) return;
  showRasters(shown.rasters);
  showResiduals(shown.residuals);
});

function showContributions(run, contribution) {
  $("contributions").replaceChildren(
    ...run.senses.flatMap((sense, at) => {
      const value = contribution[sense.name];
      if (value === undefined) return [];
      const [from, to] = [0.5 + Math.min(0, value) / 2, 0.5 + Math.max(0, value) / 2];
      const bar = barOf(sense.name, from, to, `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`);
      bar.querySelector(".fill").style.background = `var(--s${at % 6})`;
      bar.querySelector(".track").append(element("span", { className: "zero" }));
      return [bar];
    }),
  );
}

function barOf(name, from, to, text) {
  const fill = element("span", { className: "fill" });
  fill.style.left = `${100 * from}%`;
  fill.style.width = `${100 * (to - from)}%`;
  const track = element("span", { className: "track" }, fill);
  track.setAttribute("aria-hidden", "true");
  const what = element("span", { className: "what", textContent: name, title: name });
  return element("li", { className: "bar" }, what, track, element("span", { className: "share", textContent: text }));
}

// Layers that belong together: those of encoders, and those by which one sense reads another.
function groupOf(layer) {
  const parts = layer.split(".");
  const depth = parts[0] === "encoders" ? 1 : Math.min(3, parts.length - 1);
  return [parts[Math.max(0, depth - 1)].replaceAll("_", " "), parts.slice(depth).join(" ")];
}

function showRasters(rasters) {
  const groups = Map.groupBy(rasters, (raster) => groupOf(raster.layer)[0]);
  $("rasters").replaceChildren(
    ...[...groups].map(([name, members]) => {
      const boxes = element("div", { className: "boxes" }, ...members.map(rasterFigure));
      return element("section", {}, element("h3", { textContent: name }), boxes);
    }),
  );
}

function rasterFigure(raster) {
  const told = `${percent(raster.rate)} of ${raster.height} neurons over ${raster.width} steps`;
  const canvas = labeled(`${raster.layer}: ${told}`);
  paintRaster(canvas, raster, colorOf($("inside")));
  const caption = element("figcaption", {}, groupOf(raster.layer)[1], element("br"), percent(raster.rate));
  return element("figure", { title: raster.layer }, canvas, caption);
}

function showResiduals(residuals) {
  $("residual").hidden = !residuals.length;
  const most = Math.max(...residuals.flatMap((each) => each.steps));
  $("residuals").replaceChildren(
    ...residuals.map((each) => {
      const title = `${each.target} from ${each.source}`;
      const canvas = labeled(`${title}: ${each.steps.map((value) => value.toPrecision(2)).join(", ")}`);
      paintSteps(canvas, each.steps, most, colorOf($("residuals")));
      const last = each.steps.at(-1).toPrecision(2);
      return element("figure", {}, canvas, element("figcaption", { textContent: `${title}, ${last} in the last step` }));
    }),
  );
}

function labeled(text) {
  const canvas = element("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", text);
  return canvas;
}
