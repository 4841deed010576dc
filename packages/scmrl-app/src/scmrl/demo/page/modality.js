// The card of one modality: its input, overlays, and the controls that perturb it.
import { element } from "/elements.js";
import { paintFrame } from "/canvas.js";

const COLORS = 6; // modality colors in the style sheet

function overlayLabel(overlay) {
  if (overlay.kind === "saliency") return "mean attention";
  if (overlay.kind === "occlusion") return "occlusion: effect on the prediction";
  return `attention of ${overlay.target}`;
}

// Describes what the palest and the reddest positions stand for.
function overlayRange({ kind, low, high }) {
  if (kind === "attention") return `${low.toFixed(2)} (pale) to ${high.toFixed(2)} (red); uniform attention is 1`;
  if (kind === "occlusion") return `blanking costs ${(100 * low).toFixed(1)} (pale) to ${(100 * high).toFixed(1)} points (red)`;
  return "redder is more";
}

export class ModalityCard {
  // `on.change()` is called when the input is perturbed, `on.upload(files, modality)` when a file is chosen.
  constructor(modality, number, on) {
    this.name = modality.name;
    this.flipped = modality.flipped;
    this.on = on;
    this.frames = null;
    this.overlays = [];
    this.selected = null; // overlay that the user selected
    this.present = false; // whether the clip has this modality
    this.title = element("p", { className: "name" });
    this.canvas = element("canvas", { hidden: true });
    this.canvas.setAttribute("role", "img");
    this.sound = element("audio", { controls: true, preload: "none", hidden: true });
    this.sound.setAttribute("aria-label", `Recorded sound of ${modality.name}`);
    this.absent = element("p", { className: "absent", textContent: "not in this clip" });
    this.overlay = element("select");
    this.overlay.addEventListener("change", () => {
      this.selected = this.overlay.value;
      this.draw();
    });
    this.overlayRow = element("label", { className: "row" }, "Overlay", this.overlay);
    this.range = element("p", { className: "note range" });
    this.step = element("input", { type: "range", min: 0, max: 0, value: 0 });
    this.stepOutput = element("output");
    this.step.addEventListener("input", () => this.draw());
    this.stepRow = element("label", { className: "row" }, "Time step", this.step, this.stepOutput);
    this.mute = element("input", { type: "checkbox" });
    this.mute.addEventListener("change", () => this.#changed());
    this.slider = element("input", { type: "range", min: 0, max: 100, step: 1, value: 0 });
    this.sliderOutput = element("output", { className: "noise" });
    this.slider.addEventListener("input", () => this.#changed());
    this.kind = modality.kind;
    this.root = element(
      "article",
      { className: "modality" },
      element(
        "header",
        {},
        element("h2", { textContent: modality.name }),
        element("small", { textContent: modality.axes || modality.kind }),
      ),
      this.title,
      this.canvas,
      this.sound,
      this.absent,
      this.range,
      this.stepRow,
      this.overlayRow,
      element("label", { className: "check" }, this.mute, `Mute ${modality.name}`),
      element("label", { className: "row" }, "Noise", this.slider, this.sliderOutput),
    );
    this.root.dataset.modality = modality.name;
    this.root.style.setProperty("--hue", `var(--m${number % COLORS})`);
    this.slider.setAttribute("aria-label", `Noise in ${modality.name}`);
    this.step.setAttribute("aria-label", `Time step of ${modality.name}`);
    this.overlay.setAttribute("aria-label", `Overlay on ${modality.name}`);
    if (on.upload) this.root.append(this.#fileButton(modality));
    this.reset();
  }

  get muted() {
    return this.mute.checked;
  }

  // Share of noise, 0 to 1.
  get noise() {
    return this.slider.valueAsNumber / 100;
  }

  reset() {
    this.mute.checked = false;
    this.slider.value = 0;
    this.#update();
  }

  // Shows an input. `name` is undefined if the clip lacks the modality; `frames` are then undefined, too. If it is
  // muted, earlier frames are kept. `sound` is the URL of its sound, if there is one.
  show(frames, name, sound) {
    this.present = name !== undefined;
    this.title.textContent = name ?? "";
    const url = this.present ? (sound ?? "") : "";
    this.sound.hidden = url === "";
    if ((this.sound.getAttribute("src") ?? "") !== url) {
      if (url) this.sound.src = url;
      else this.sound.removeAttribute("src");
    }
    for (const part of [this.canvas, this.range, this.overlayRow]) part.hidden = !this.present;
    this.absent.hidden = this.present;
    for (const control of [this.mute, this.slider, this.overlay, this.step]) control.disabled = !this.present;
    this.frames = this.present ? (frames ?? this.frames) : null;
    this.stepRow.hidden = !this.frames || this.frames.length < 2;
    if (!this.frames) return;
    this.step.max = this.frames.length - 1;
    this.draw();
  }

  // Sets the available overlays. While an explanation is computed there are none, but the selection is kept.
  setOverlays(overlays) {
    this.overlays = overlays;
    if (overlays.length) {
      const options = overlays.map((overlay) => new Option(overlayLabel(overlay), overlay.kind + overlay.target));
      this.overlay.replaceChildren(...options, new Option("none", ""));
      if (this.selected !== null) this.overlay.value = this.selected;
      if (this.overlay.selectedIndex < 0) this.overlay.selectedIndex = 0;
    }
    this.draw();
  }

  draw() {
    if (!this.frames) return;
    const overlay = this.overlays.find((each) => each.kind + each.target === this.overlay.value);
    const step = this.step.valueAsNumber;
    this.stepOutput.textContent = step === 0 ? "all" : `${step} of ${this.step.max}`;
    paintFrame(this.canvas, this.frames[step], overlay, this.flipped);
    this.range.textContent = overlay ? overlayRange(overlay) : "";
    const description = overlay ? `, with overlay: ${overlayLabel(overlay)}` : "";
    this.canvas.setAttribute("aria-label", `Input ${this.name}${description}`);
  }

  #changed() {
    this.#update();
    this.on.change();
  }

  #update() {
    this.root.classList.toggle("off", this.muted);
    const share = this.noise;
    const ratio = 10 * Math.log10((1 - share) / share);
    const decibels = this.kind === "events" || share === 0 || share === 1 ? "" : ` (${ratio.toFixed(1)} dB)`;
    this.sliderOutput.textContent = `${this.slider.value} %${decibels}`;
    this.slider.setAttribute("aria-valuetext", this.sliderOutput.textContent);
  }

  #fileButton(modality) {
    const input = element("input", { type: "file", accept: modality.endings.join(",") });
    input.addEventListener("change", () => {
      this.on.upload([...input.files], this.name);
      input.value = "";
    });
    return element("label", { className: "file" }, input, `Another file for ${modality.name}`);
  }
}
