// One sense: what it gives, where it was read, and the controls that disturb it.
import { element } from "/elements.js";
import { paint } from "/pictures.js";

const HUES = 6; // that the style sheet names

function saying(overlay) {
  if (overlay.kind === "saliency") return "what was read of it";
  if (overlay.kind === "occlusion") return "what the answer hangs on";
  return `what ${overlay.reader} read of it`;
}

// What its palest and its reddest places stand for.
function ranging({ kind, low, high }) {
  if (kind === "attention") return `${low.toFixed(2)} (pale) to ${high.toFixed(2)} times (red) the even share`;
  if (kind === "occlusion") return `blanking costs ${(100 * low).toFixed(1)} (pale) to ${(100 * high).toFixed(1)} points (red)`;
  return "the redder, the more";
}

export class SenseCard {
  // `does.changed()` is called when something is disturbed, `does.take(files, sense)` when a file is chosen for it.
  constructor(sense, number, does) {
    this.name = sense.name;
    this.flipped = sense.flipped;
    this.does = does;
    this.frames = null;
    this.overlays = [];
    this.chosen = null; // of the overlays, by the person
    this.there = false; // whether the clip has it
    this.title = element("p", { className: "name" });
    this.canvas = element("canvas", { hidden: true });
    this.canvas.setAttribute("role", "img");
    this.sound = element("audio", { controls: true, preload: "none", hidden: true });
    this.sound.setAttribute("aria-label", `Sound of ${sense.name}, as it was recorded`);
    this.absent = element("p", { className: "absent", textContent: "not in this clip" });
    this.over = element("select");
    this.over.addEventListener("change", () => {
      this.chosen = this.over.value;
      this.draw();
    });
    this.choice = element("label", { className: "row" }, "Lay over", this.over);
    this.range = element("p", { className: "note range" });
    this.step = element("input", { type: "range", min: 0, max: 0, value: 0 });
    this.stepShown = element("output");
    this.step.addEventListener("input", () => this.draw());
    this.steps = element("label", { className: "row" }, "Time step", this.step, this.stepShown);
    this.mute = element("input", { type: "checkbox" });
    this.mute.addEventListener("change", () => this.#changed());
    this.slider = element("input", { type: "range", min: 0, max: 100, step: 1, value: 0 });
    this.sliderShown = element("output", { className: "noise" });
    this.slider.addEventListener("input", () => this.#changed());
    this.kind = sense.kind;
    this.root = element(
      "article",
      { className: "sense" },
      element("header", {}, element("h2", { textContent: sense.name }), element("small", { textContent: sense.axes || sense.kind })),
      this.title,
      this.canvas,
      this.sound,
      this.absent,
      this.range,
      this.steps,
      this.choice,
      element("label", { className: "check" }, this.mute, `Mute ${sense.name}`),
      element("label", { className: "row" }, "Noise", this.slider, this.sliderShown),
    );
    this.root.dataset.sense = sense.name;
    this.root.style.setProperty("--hue", `var(--s${number % HUES})`);
    this.slider.setAttribute("aria-label", `Noise in ${sense.name}`);
    this.step.setAttribute("aria-label", `Time step of ${sense.name}`);
    this.over.setAttribute("aria-label", `What to lay over ${sense.name}`);
    if (does.take) this.root.append(this.#fileButton(sense));
    this.undo();
  }

  get muted() {
    return this.mute.checked;
  }

  // Share of noise, 0 to 1.
  get noise() {
    return this.slider.valueAsNumber / 100;
  }

  undo() {
    this.mute.checked = false;
    this.slider.value = 0;
    this.#tell();
  }

  // What the sense gave: pictures; none if the clip lacks it (then it has no name, either), or if it is muted and they
  // are those of before. `sound` is the address of its sound, if it has one that can be played.
  show(frames, name, sound) {
    this.there = name !== undefined;
    this.title.textContent = name ?? "";
    const address = this.there ? (sound ?? "") : "";
    this.sound.hidden = address === "";
    if ((this.sound.getAttribute("src") ?? "") !== address) {
      if (address) this.sound.src = address;
      else this.sound.removeAttribute("src");
    }
    for (const shown of [this.canvas, this.range, this.choice]) shown.hidden = !this.there;
    this.absent.hidden = this.there;
    for (const control of [this.mute, this.slider, this.over, this.step]) control.disabled = !this.there;
    this.frames = this.there ? (frames ?? this.frames) : null;
    this.steps.hidden = !this.frames || this.frames.length < 2;
    if (!this.frames) return;
    this.step.max = this.frames.length - 1;
    this.draw();
  }

  // What may be laid over its picture; while an explanation is under way, nothing, but what is chosen stays chosen.
  lay(overlays) {
    this.overlays = overlays;
    if (overlays.length) {
      const options = overlays.map((overlay) => new Option(saying(overlay), overlay.kind + overlay.reader));
      this.over.replaceChildren(...options, new Option("nothing", ""));
      if (this.chosen !== null) this.over.value = this.chosen;
      if (this.over.selectedIndex < 0) this.over.selectedIndex = 0;
    }
    this.draw();
  }

  draw() {
    if (!this.frames) return;
    const overlay = this.overlays.find((each) => each.kind + each.reader === this.over.value);
    const at = this.step.valueAsNumber;
    this.stepShown.textContent = at === 0 ? "all" : `${at} of ${this.step.max}`;
    paint(this.canvas, this.frames[at], overlay, this.flipped);
    this.range.textContent = overlay ? ranging(overlay) : "";
    const over = overlay ? `, and over it ${saying(overlay)}` : "";
    this.canvas.setAttribute("aria-label", `What ${this.name} gave the model${over}`);
  }

  #changed() {
    this.#tell();
    this.does.changed();
  }

  #tell() {
    this.root.classList.toggle("off", this.muted);
    const share = this.noise;
    const ratio = 10 * Math.log10((1 - share) / share);
    const told = this.kind === "events" || share === 0 || share === 1 ? "" : ` (${ratio.toFixed(1)} dB)`;
    this.sliderShown.textContent = `${this.slider.value} %${told}`;
    this.slider.setAttribute("aria-valuetext", this.sliderShown.textContent);
  }

  #fileButton(sense) {
    const input = element("input", { type: "file", accept: sense.endings.join(",") });
    input.addEventListener("change", () => {
      this.does.take([...input.files], this.name);
      input.value = "";
    });
    return element("label", { className: "file" }, input, `Another file for ${sense.name}`);
  }
}
