// Follows a job by server-sent events, by polling where they fail, and puts the player in its place when there is something to play.
"use strict";

const page = document.getElementById("watch");
const assetId = page.dataset.asset;
let jobId = page.dataset.job;
const WORDS = {
  queued: "Waiting to start", planning: "Looking at the film", running: "Converting", finishing: "Finishing",
  succeeded: "Ready", failed: "This film could not be converted", cancelled: "Cancelled",
};
const WORKING = ["queued", "planning", "running", "finishing"];
const $ = (id) => document.getElementById(id);

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function words(job) {
  const said = [];
  if (job.waiting_for) said.push(job.waiting_for);
  else if (job.note) said.push(job.note);
  if (job.state !== "queued" && job.progress > 0) said.push(`${Math.round(job.progress * 100)} %`);
  if (job.eta_seconds !== null && WORKING.includes(job.state)) said.push(`about ${duration(job.eta_seconds)} to go`);
  if (job.attempt_count > 0 && WORKING.includes(job.state)) said.push(`${job.attempt_count} failed attempt${job.attempt_count > 1 ? "s" : ""} so far`);
  return said.join(" · ");
}

function show(job) {
  page.dataset.state = job.state;
  if (job.state === "succeeded") { play(); return; }
  if (!$("waiting")) return;
  $("waiting").className = `waiting ${job.state}`;
  if ($("state").textContent !== WORDS[job.state]) $("state").textContent = WORDS[job.state];
  const working = WORKING.includes(job.state);
  $("bar").hidden = !working;
  $("bar").value = job.progress;
  $("words").textContent = words(job);
  $("failure").hidden = !job.error;
  $("message").textContent = job.error ? job.error.message : "";
  $("hint").textContent = job.error ? job.error.hint : "";
  $("retry").hidden = working;
  $("cancel").hidden = !working;
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function play(tries = 40) {
  const answer = await fetch(`/v1/assets/${encodeURIComponent(assetId)}`).catch(() => null);
  const asset = answer && answer.ok ? await answer.json() : null;
  if (!asset || asset.renditions.length === 0) {
    // The status may be seen a moment before the renditions.
    if (tries > 0) setTimeout(() => play(tries - 1), 250);
    else complain("The film is ready, but its files cannot be found. Load this page again.");
    return;
  }
  const video = document.createElement("video");
  Object.assign(video, { id: "player", controls: true, playsInline: true, preload: "metadata" });
  if (asset.poster_url) video.poster = asset.poster_url;
  for (const rendition of asset.renditions) {
    const source = document.createElement("source");
    source.src = rendition.url;
    source.type = rendition.content_type;
    source.dataset.name = rendition.name;
    video.append(source);
  }
  $("stage").replaceChildren(video);
  if (asset.duration_seconds !== null) $("length").textContent = clock(asset.duration_seconds);
  qualities();
}

function clock(seconds) {
  const whole = Math.round(seconds), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
  return (h ? `${h}:${String(m).padStart(2, "0")}` : `${m}`) + `:${String(s).padStart(2, "0")}`;
}

function qualities() {
  const video = $("player"), sources = [...video.querySelectorAll("source")];
  if (sources.length < 2) return;
  $("rendition").replaceChildren(...sources.map((source) => new Option(source.dataset.name, source.src)));
  $("quality").hidden = false;
  $("rendition").onchange = () => {
    const at = video.currentTime, playing = !video.paused;
    video.src = $("rendition").value;
    video.currentTime = at;
    if (playing) video.play();
  };
}

let timer = 0;
function poll(etag) {
  clearTimeout(timer);
  const headers = etag ? { "If-None-Match": etag } : {};
  fetch(`/v1/jobs/${encodeURIComponent(jobId)}?wait=25`, { headers }).then(async (answer) => {
    if (answer.status === 200) {
      const job = await answer.json();
      complain("");
      show(job);
      if (!WORKING.includes(job.state)) return;
    }
    const later = answer.status === 200 || answer.status === 304 ? 200 : 3000;
    timer = setTimeout(() => poll(answer.headers.get("ETag") || etag), later);
  }).catch(() => {
    complain("The connection was lost; trying again.");
    timer = setTimeout(() => poll(etag), 3000);
  });
}

function follow() {
  if (!window.EventSource) { poll(""); return; }
  const stream = new EventSource(`/v1/jobs/${encodeURIComponent(jobId)}/events`);
  stream.addEventListener("status", (event) => {
    complain("");
    const job = JSON.parse(event.data);
    show(job);
    if (!WORKING.includes(job.state)) stream.close();
  });
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED) poll("");
  };
}

async function ask(what) {
  const answer = await fetch(`/v1/jobs/${encodeURIComponent(jobId)}/${what}`, { method: "POST" }).catch(() => null);
  if (!answer || !answer.ok) {
    const problem = answer ? await answer.json().catch(() => null) : null;
    complain(problem ? problem.detail : "The gateway did not answer.");
    return;
  }
  if (what === "retry") {
    $("retry").hidden = true;
    $("state").textContent = "Trying again";
    $("failure").hidden = true;
    // Until the coordinator has taken it up the status still says how it ended.
    const etag = (await fetch(`/v1/jobs/${encodeURIComponent(jobId)}`)).headers.get("ETag");
    const look = () => fetch(`/v1/jobs/${encodeURIComponent(jobId)}`, { headers: { "If-None-Match": etag }, cache: "no-store" })
      .then((a) => (a.status === 304 ? setTimeout(look, 500) : follow()), () => setTimeout(look, 2000));
    look();
  }
}

async function remove() {
  if (!confirm("Delete this film and all of its files? This cannot be undone.")) return;
  $("delete").disabled = true;
  complain("");
  const answer = await fetch(`/v1/assets/${encodeURIComponent(assetId)}`, { method: "DELETE" }).catch(() => null);
  if (answer && answer.ok) { location.assign("/"); return; }
  const problem = answer ? await answer.json().catch(() => null) : null;
  complain(problem ? problem.detail : "The gateway did not answer.");
  $("delete").disabled = false;
}

$("delete").onclick = remove;
if ($("player")) qualities();
else if (jobId) {
  $("retry").onclick = () => ask("retry");
  $("cancel").onclick = () => ask("cancel");
  if (WORKING.includes(page.dataset.state)) follow();
  else if (page.dataset.state === "succeeded") play();
}
