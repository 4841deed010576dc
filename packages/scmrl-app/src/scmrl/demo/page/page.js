// The page's state: what is looked at, how it is disturbed, and what the server says of it.
import { showAnswer, showExplanation } from "/answer.js";
import { $, element } from "/elements.js";
import { SenseCard } from "/sense.js";

const PAUSE = 40; // milliseconds without a further change before the model is asked
const LONGER = 250; // before it is explained
const FILES = { image: "picture", video: "video", waveform: "sound", events: "events", series: "table" };
const main = document.querySelector("main");

let run; // what the server says of the run
let clip = null; // what is looked at: a sample's number, or an upload's token
let before = null; // its probabilities before anything is disturbed
let cards = []; // one a sense
let soon = 0; // timers
let later = 0;
let waiting = 0; // answers that are under way
const sounds = new Map(); // by an upload's token the addresses of its sounds, by sense
let taking = Promise.resolve(); // files, one choice of them after the other

async function fetched(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Error("The server does not answer, or has cut this off; is `scmrl demo` still running?");
  });
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.fault || `The server refused this (${response.status}).`);
  return content;
}

function post(path, type, body) {
  return fetched(path, { method: "POST", headers: { "Content-Type": type }, body });
}

function put(path, content) {
  return post(path, "application/json", JSON.stringify(content));
}

// What is looked at

function look(at) {
  clip = at;
  before = null;
  for (const card of cards) card.lay([]);
  ask();
}

function lookAnew(at) {
  for (const card of cards) card.undo();
  look(at);
}

async function upload(file, into, sense) {
  if (file.size > run.largest_upload * 1e6) {
    throw new Error(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; at most ${run.largest_upload} MB are taken`);
  }
  const query = new URLSearchParams({ name: file.name });
  if (into !== null) query.set("into", into);
  if (sense !== null) query.set("sense", sense);
  return post(`/api/clips?${query}`, "application/octet-stream", file);
}

// Where the sounds of a clip are, by sense: those of samples on the server, those of uploads in this page.
function soundsOf(clip) {
  if (typeof clip !== "number") return sounds.get(clip) ?? {};
  const heard = run.senses.filter((sense) => sense.heard);
  return Object.fromEntries(heard.map(({ name }) => [name, `/api/sounds?${new URLSearchParams({ sample: clip, sense: name })}`]));
}

function heardFrom(file, names) {
  const heard = run.senses.filter((sense) => sense.kind === "waveform" && names.includes(sense.name));
  if (!heard.length) return {};
  const address = URL.createObjectURL(file);
  return Object.fromEntries(heard.map((sense) => [sense.name, address]));
}

// Files that come together are one clip; one that is for a sense takes its place in the clip that is looked at. What is
// chosen while others are read waits for them, or it would undo them.
function take(files, sense = null) {
  taking = taking.then(() => takeNow(files, sense));
}

async function takeNow(files, sense) {
  const faults = [];
  const at = clip;
  let token = sense === null ? null : at;
  $("fault").textContent = "";
  busy(+1);
  for (const file of files) {
    $("doing").textContent = `Reading ${file.name} …`;
    try {
      const before = soundsOf(token);
      const taken = await upload(file, token, sense);
      token = taken.clip;
      sounds.set(token, { ...before, ...heardFrom(file, taken.senses) });
      faults.push(...Object.entries(taken.faults).map(([name, fault]) => `${name}: ${fault}`));
    } catch (error) {
      faults.push(error.message);
    }
  }
  busy(-1);
  $("doing").textContent = "";
  const arrived = token !== null && token !== at;
  const late = arrived && sense !== null && clip !== at;
  if (late) faults.push(`The file for ${sense} came when something else was looked at; choose it again for this.`);
  $("fault").textContent = faults.join("; ");
  if (!arrived || late) return;
  if (sense === null) lookAnew(token);
  else look(token);
}

function takeSample() {
  const number = $("sample").valueAsNumber;
  const there = Number.isInteger(number) && number >= 0 && number < run.labels.length;
  $("fault").textContent = there ? "" : `The test split has samples from 0 to ${run.labels.length - 1}.`;
  if (there && (number !== clip || before === null)) lookAnew(number);
}

function takeAnySample() {
  const wanted = $("class").value;
  const fitting = [...run.labels.keys()].filter((at) => wanted === "" || run.labels[at] === Number(wanted));
  if (fitting.length) {
    const others = fitting.filter((at) => at !== clip);
    const from = others.length ? others : fitting;
    $("sample").value = from[Math.floor(Math.random() * from.length)];
    takeSample();
  } else $("fault").textContent = "The test split has no sample of this class.";
}

// What the server is asked: at once what the model says, and after a pause why

// Does `work` one at a time: what is asked for meanwhile is done once afterwards, so that no queue builds up behind a
// slider, and the newest answer is the last one shown.
function latest(work) {
  let [working, again] = [false, false];
  return async () => {
    again = working;
    if (working) return;
    working = true;
    busy(+1);
    do {
      again = false;
      await work();
    } while (again);
    working = false;
    busy(-1);
  };
}

function busy(change) {
  waiting += change;
  main.setAttribute("aria-busy", String(waiting > 0));
}

function question() {
  const muted = cards.filter((card) => card.muted).map((card) => card.name);
  const noise = Object.fromEntries(cards.filter((card) => card.noise > 0).map((card) => [card.name, card.noise]));
  return { clip, muted, noise };
}

function isDisturbed() {
  return cards.some((card) => card.muted || card.noise > 0);
}

function ask() {
  $("undo").disabled = !isDisturbed();
  clearTimeout(soon);
  clearTimeout(later);
  soon = setTimeout(answer, PAUSE);
  later = setTimeout(explain, LONGER);
}

function nothingLeft() {
  const there = cards.filter((card) => card.there);
  const nothing = there.length > 0 && there.every((card) => card.muted);
  if (nothing) $("stuck").textContent = "Every sense is muted, and the model needs one.";
  return nothing;
}

const answer = latest(async () => {
  if (nothingLeft()) return;
  const asked = question();
  const disturbed = isDisturbed();
  if (main.dataset.state === "empty") $("asking").textContent = "Asking the model …"; // nothing else shows yet
  try {
    const plain = before ? null : await put("/api/answers", { clip: asked.clip });
    const said = disturbed || !plain ? await put("/api/answers", asked) : plain;
    if (asked.clip !== clip) return;
    before ??= plain.probabilities;
    main.dataset.state = "full";
    $("stuck").textContent = "";
    // Of a sense that is muted from the start, what it would have given.
    const frames = { ...plain?.frames, ...said.frames };
    const heard = soundsOf(asked.clip);
    for (const card of cards) card.show(frames[card.name], said.names[card.name], heard[card.name]);
    showAnswer(run, said, disturbed ? before : null);
  } catch (error) {
    if (asked.clip !== clip) return;
    if (before === null) main.dataset.state = "empty"; // what is shown is of another clip
    $(main.dataset.state === "full" ? "stuck" : "fault").textContent = error.message;
  } finally {
    $("asking").textContent = "";
  }
});

const explain = latest(async () => {
  if (nothingLeft()) return;
  const asked = JSON.stringify(question());
  try {
    const why = await put("/api/explanations", JSON.parse(asked));
    if (asked !== JSON.stringify(question())) return;
    for (const card of cards) card.lay(why.overlays[card.name] ?? []);
    showExplanation(run, why);
  } catch (error) {
    // What keeps the model from answering is told by the answer.
    if (main.dataset.state === "full") $("stuck").textContent = error.message;
  }
});

// The page itself

function offerFiles() {
  $("drop").hidden = false;
  const kinds = run.senses.map((sense) => `${sense.name}: ${sense.takes.map((kind) => FILES[kind]).join(" or ")}`);
  $("accepted").textContent = [...kinds, `at most ${run.largest_upload} MB`].join(" · ");
  const input = $("files");
  input.accept = [...new Set(run.senses.flatMap((sense) => sense.endings))].join(",");
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  // A file that misses the field would replace the page.
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  });
}

function offerSamples() {
  $("samples").hidden = false;
  $("class").append(new Option("any", ""), ...run.classes.map((name, at) => new Option(name, at)));
  $("sample").max = run.labels.length - 1;
  $("sample").addEventListener("change", takeSample);
  $("class").addEventListener("change", takeAnySample);
  $("surprise").addEventListener("click", takeAnySample);
}

async function begin() {
  // A token in the address has become a cookie; it need not stay in sight, nor in the history.
  if (location.search) history.replaceState(null, "", location.pathname);
  run = await fetched("/api/run");
  const senses = run.senses.map((sense) => sense.name + (sense.synthetic ? " (synthetic)" : ""));
  $("about").textContent = `${run.run}: ${run.data}, ${run.classes.length} classes, ${new Intl.ListFormat("en").format(senses)}`;
  const ways = [];
  if (run.no_files) $("accepted-not").textContent = run.no_files;
  else {
    offerFiles();
    ways.push("drop a clip");
  }
  if (run.no_samples) $("samples-not").textContent = `No samples: ${run.no_samples}`;
  else {
    offerSamples();
    ways.push("take a sample of the test split");
  }
  $("first").textContent = `${ways.join(", or ")}.`;
  cards = run.senses.map((sense, at) => new SenseCard(sense, at, { changed: ask, take: run.no_files ? null : take }));
  $("senses").dataset.count = main.dataset.senses = cards.length;
  $("senses").append(...cards.map((card) => card.root));
  $("notes").append(...run.notes.map((note) => element("p", { className: "note", textContent: note })));
  $("undo").addEventListener("click", () => {
    for (const card of cards) card.undo();
    ask();
  });
  // There is something to see and to disturb at once.
  if (run.labels.length) {
    $("sample").value = 0;
    takeSample();
  }
}

begin().catch((error) => {
  $("fault").textContent = error.message;
});
