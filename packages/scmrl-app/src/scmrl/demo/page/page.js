// The state of the page: the clip, its perturbation, and the responses of the server.
import { showExplanation, showPrediction } from "/prediction.js";
import { $, element } from "/elements.js";
import { ModalityCard } from "/modality.js";

const PREDICT_DELAY = 40; // milliseconds after the last change
const EXPLAIN_DELAY = 250;
const KINDS = { image: "image", video: "video", waveform: "sound", events: "events", series: "table" };
const main = document.querySelector("main");

let run; // the server's description of the run
let clip = null; // a sample's number, or an upload's token
let unperturbed = null; // probabilities of the clip without noise and muting
let cards = []; // one per modality
let predictTimer = 0;
let explainTimer = 0;
let pending = 0; // running requests
const sounds = new Map(); // URLs of an upload's sounds by modality, by token
let uploads = Promise.resolve(); // one choice of files after the other

async function fetchJson(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Error("The server does not respond, or closed the connection; is `scmrl demo` still running?");
  });
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.fault || `The server refused the request (${response.status}).`);
  return content;
}

function post(path, type, body) {
  return fetchJson(path, { method: "POST", headers: { "Content-Type": type }, body });
}

function postJson(path, content) {
  return post(path, "application/json", JSON.stringify(content));
}

// Clips

function setClip(key) {
  clip = key;
  unperturbed = null;
  for (const card of cards) card.setOverlays([]);
  update();
}

function setNewClip(key) {
  for (const card of cards) card.reset();
  setClip(key);
}

async function upload(file, into, modality) {
  if (file.size > run.max_upload * 1e6) {
    throw new Error(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; the limit is ${run.max_upload} MB`);
  }
  const query = new URLSearchParams({ name: file.name });
  if (into !== null) query.set("into", into);
  if (modality !== null) query.set("modality", modality);
  return post(`/api/clips?${query}`, "application/octet-stream", file);
}

// Returns the URLs of a clip's sounds by modality: those of samples are on the server, those of uploads in this page.
function soundsOf(clip) {
  if (typeof clip !== "number") return sounds.get(clip) ?? {};
  const audible = run.modalities.filter((modality) => modality.has_sound);
  const url = (name) => `/api/sounds?${new URLSearchParams({ sample: clip, modality: name })}`;
  return Object.fromEntries(audible.map(({ name }) => [name, url(name)]));
}

function soundsIn(file, names) {
  const audible = run.modalities.filter((modality) => modality.kind === "waveform" && names.includes(modality.name));
  if (!audible.length) return {};
  const url = URL.createObjectURL(file);
  return Object.fromEntries(audible.map((modality) => [modality.name, url]));
}

// Files chosen together form one clip; a file for one modality replaces that modality of the present clip. A second
// choice waits for the first one, which it would undo otherwise.
function queueUpload(files, modality = null) {
  uploads = uploads.then(() => uploadFiles(files, modality));
}

async function uploadFiles(files, modality) {
  const faults = [];
  const initial = clip;
  let token = modality === null ? null : initial;
  $("clip-fault").textContent = "";
  countPending(+1);
  for (const file of files) {
    $("upload-status").textContent = `Reading ${file.name} …`;
    try {
      const earlierSounds = soundsOf(token);
      const response = await upload(file, token, modality);
      token = response.clip;
      sounds.set(token, { ...earlierSounds, ...soundsIn(file, response.modalities) });
      faults.push(...Object.entries(response.faults).map(([name, fault]) => `${name}: ${fault}`));
    } catch (error) {
      faults.push(error.message);
    }
  }
  countPending(-1);
  $("upload-status").textContent = "";
  const uploaded = token !== null && token !== initial;
  const outdated = uploaded && modality !== null && clip !== initial;
  if (outdated) faults.push(`The clip changed while the file for ${modality} was read; choose the file again.`);
  $("clip-fault").textContent = faults.join("; ");
  if (!uploaded || outdated) return;
  if (modality === null) setNewClip(token);
  else setClip(token);
}

function pickSample() {
  const number = $("sample").valueAsNumber;
  const exists = Number.isInteger(number) && number >= 0 && number < run.labels.length;
  $("clip-fault").textContent = exists ? "" : `The test split has samples 0 to ${run.labels.length - 1}.`;
  if (exists && (number !== clip || unperturbed === null)) setNewClip(number);
}

function pickRandomSample() {
  const label = $("class").value;
  const candidates = [...run.labels.keys()].filter((index) => label === "" || run.labels[index] === Number(label));
  if (candidates.length) {
    const others = candidates.filter((index) => index !== clip);
    const pool = others.length ? others : candidates;
    $("sample").value = pool[Math.floor(Math.random() * pool.length)];
    pickSample();
  } else $("clip-fault").textContent = "The test split has no sample of this class.";
}

// Predictions and explanations

// Runs `work` once at a time. Calls during a run cause one more run afterward, so that no queue builds up behind a
// slider and the last response belongs to the last state.
function latest(work) {
  let [running, again] = [false, false];
  return async () => {
    again = running;
    if (running) return;
    running = true;
    countPending(+1);
    do {
      again = false;
      await work();
    } while (again);
    running = false;
    countPending(-1);
  };
}

function countPending(change) {
  pending += change;
  main.setAttribute("aria-busy", String(pending > 0));
}

function currentQuery() {
  const muted = cards.filter((card) => card.muted).map((card) => card.name);
  const noise = Object.fromEntries(cards.filter((card) => card.noise > 0).map((card) => [card.name, card.noise]));
  return { clip, muted, noise };
}

function isPerturbed() {
  return cards.some((card) => card.muted || card.noise > 0);
}

function update() {
  $("reset").disabled = !isPerturbed();
  clearTimeout(predictTimer);
  clearTimeout(explainTimer);
  predictTimer = setTimeout(predict, PREDICT_DELAY);
  explainTimer = setTimeout(explain, EXPLAIN_DELAY);
}

function allMuted() {
  const present = cards.filter((card) => card.present);
  const muted = present.length > 0 && present.every((card) => card.muted);
  if (muted) $("predict-fault").textContent = "All modalities are muted; the model needs at least one.";
  return muted;
}

const predict = latest(async () => {
  if (allMuted()) return;
  const query = currentQuery();
  const perturbed = isPerturbed();
  if (main.dataset.state === "empty") $("predict-status").textContent = "Predicting …"; // nothing else is visible yet
  try {
    const original = unperturbed ? null : await postJson("/api/predictions", { clip: query.clip });
    const prediction = perturbed || !original ? await postJson("/api/predictions", query) : original;
    if (query.clip !== clip) return;
    unperturbed ??= original.probabilities;
    main.dataset.state = "full";
    $("predict-fault").textContent = "";
    // A modality that is muted from the start shows its original input.
    const frames = { ...original?.frames, ...prediction.frames };
    const urls = soundsOf(query.clip);
    for (const card of cards) card.show(frames[card.name], prediction.names[card.name], urls[card.name]);
    showPrediction(run, prediction, perturbed ? unperturbed : null);
  } catch (error) {
    if (query.clip !== clip) return;
    if (unperturbed === null) main.dataset.state = "empty"; // the page still shows another clip
    $(main.dataset.state === "full" ? "predict-fault" : "clip-fault").textContent = error.message;
  } finally {
    $("predict-status").textContent = "";
  }
});

const explain = latest(async () => {
  if (allMuted()) return;
  const query = JSON.stringify(currentQuery());
  try {
    const explanation = await postJson("/api/explanations", JSON.parse(query));
    if (query !== JSON.stringify(currentQuery())) return;
    for (const card of cards) card.setOverlays(explanation.overlays[card.name] ?? []);
    showExplanation(run, explanation);
  } catch (error) {
    // Without a prediction, `predict` reports the fault.
    if (main.dataset.state === "full") $("predict-fault").textContent = error.message;
  }
});

// Setup

function setUpFiles() {
  $("drop").hidden = false;
  const accepted = run.modalities.map(({ name, accepts }) => `${name}: ${accepts.map((kind) => KINDS[kind]).join(" or ")}`);
  $("accepted").textContent = [...accepted, `at most ${run.max_upload} MB`].join(" · ");
  const input = $("files");
  input.accept = [...new Set(run.modalities.flatMap((modality) => modality.endings))].join(",");
  input.addEventListener("change", () => {
    queueUpload([...input.files]);
    input.value = "";
  });
  // A file dropped outside the field would replace the page.
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
    if (event.dataTransfer.files.length) queueUpload([...event.dataTransfer.files]);
  });
}

function setUpSamples() {
  $("samples").hidden = false;
  $("class").append(new Option("any", ""), ...run.classes.map((name, index) => new Option(name, index)));
  $("sample").max = run.labels.length - 1;
  $("sample").addEventListener("change", pickSample);
  $("class").addEventListener("change", pickRandomSample);
  $("random").addEventListener("click", pickRandomSample);
}

async function start() {
  // The token is in a cookie now; remove it from the address and the history.
  if (location.search) history.replaceState(null, "", location.pathname);
  run = await fetchJson("/api/run");
  const names = run.modalities.map((modality) => modality.name + (modality.synthetic ? " (synthetic)" : ""));
  $("about").textContent = `${run.run}: ${run.data}, ${run.classes.length} classes, ${new Intl.ListFormat("en").format(names)}`;
  const sources = [];
  if (run.no_files) $("no-files").textContent = run.no_files;
  else {
    setUpFiles();
    sources.push("drop a file");
  }
  if (run.no_samples) $("no-samples").textContent = `No samples: ${run.no_samples}`;
  else {
    setUpSamples();
    sources.push("pick a sample of the test split");
  }
  $("sources").textContent = `${sources.join(", or ")}.`;
  const on = { change: update, upload: run.no_files ? null : queueUpload };
  cards = run.modalities.map((modality, number) => new ModalityCard(modality, number, on));
  $("modalities").dataset.count = main.dataset.modalities = cards.length;
  $("modalities").append(...cards.map((card) => card.root));
  $("notes").append(...run.notes.map((note) => element("p", { className: "note", textContent: note })));
  $("reset").addEventListener("click", () => {
    for (const card of cards) card.reset();
    update();
  });
  // The first sample is shown at once.
  if (run.labels.length) {
    $("sample").value = 0;
    pickSample();
  }
}

start().catch((error) => {
  $("clip-fault").textContent = error.message;
});
