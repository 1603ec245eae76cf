// Shows a film's job, and gives the player what there is to play.
"use strict";

const $ = (id) => document.getElementById(id);
const page = $("watch");
const assetId = page.dataset.asset;
let jobId = page.dataset.job;
const WORDS = {
  queued: "Waiting to start", planning: "Looking at the film", running: "Converting", finishing: "Finishing",
  succeeded: "Ready", failed: "This film could not be converted", cancelled: "Cancelled",
};
// How long after its job a film is asked for again: its files may be seen a moment later, and its stream ends with another job.
const FILES_MS = 10_000, STREAM_MS = 180_000;

const working = () => WORKING.includes(page.dataset.state);

function clock(seconds) {
  const whole = Math.round(seconds), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
  return (h ? `${h}:${String(m).padStart(2, "0")}` : `${m}`) + `:${String(s).padStart(2, "0")}`;
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// ── What there is to play ──────────────────────────────────────────────────────────────────────────────────────────

const assetPath = `/v1/assets/${encodeURIComponent(assetId)}`;

const player = new Player($("stage"), {
  permit: async () => {
    const answer = await fetch(`${assetPath}/playback`, { method: "POST" }).catch(() => null);
    return answer && answer.ok ? answer.json() : null;
  },
  fresh: async () => {
    const answer = await fetch(assetPath, { cache: "no-store" }).catch(() => null);
    return answer && answer.ok ? answer.json() : null;
  },
  playing: () => {
    $("lack").hidden = true;
    $("keys").hidden = false;
    slim();
  },
  waiting: (waiting) => complain(waiting ? "The connection was lost; trying again." : ""),
  lacking: (text, files) => {
    $("stage").hidden = true;
    $("lack").hidden = false;
    say($("lacking"), text);
    $("files").hidden = files.length === 0;
    $("files").replaceChildren(...files.flatMap((file) => {
      const link = document.createElement("a");
      Object.assign(link, { href: file.url, download: "", textContent: file.name });
      return [link, " "];
    }));
    slim();
  },
});

// Below a film that plays, or the reason why it does not, the state of its job is a line.
function slim() {
  $("waiting").classList.add("slim");
  $("waiting").hidden = page.dataset.state === "succeeded";
  if (working()) say($("state"), "Still converting");
  if (page.dataset.state === "failed") say($("state"), "The last conversion failed; this is what there is.");
}

let etag = "", timer = 0, ended = working() ? 0 : Date.now(), complete = false, looking = false;

async function look() {
  if (looking) return; // it will look at the state when it has done
  looking = true;
  clearTimeout(timer);
  const headers = etag ? { "If-None-Match": etag } : {};
  const answer = await fetch(assetPath, { headers, cache: "no-store" }).catch(() => null);
  if (answer?.status === 200) {
    const asset = await answer.json();
    if (asset.duration_seconds !== null) $("length").textContent = clock(asset.duration_seconds);
    await player.offer(asset);
    complete = asset.hls_url !== null && !asset.live;
    // What could not be had yet is asked for again although nothing has changed.
    etag = player.playing ? answer.headers.get("ETag") ?? "" : "";
  }
  looking = false;
  const later = pause();
  if (later) timer = setTimeout(look, later);
}

// Milliseconds until the film is asked for again; 0 when nothing more will come.
function pause() {
  if (working()) return player.playing ? 3000 : 1000;
  if (page.dataset.state !== "succeeded") return 0;
  const since = Date.now() - ended;
  if (!player.playing && $("lack").hidden) {
    if (since < FILES_MS) return 250;
    complain("The film is ready, but its files cannot be found. Load this page again.");
  }
  return complete || since > STREAM_MS ? 0 : Math.max(2000, since / 10);
}

// ── The job ────────────────────────────────────────────────────────────────────────────────────────────────────────

function show(job) {
  const before = page.dataset.state;
  page.dataset.state = job.state;
  $("waiting").className = `waiting ${job.state}`;
  say($("state"), WORDS[job.state]);
  $("bar").hidden = !working();
  $("bar").value = job.progress;
  $("words").textContent = jobWords(job);
  $("failure").hidden = !job.error;
  $("message").textContent = job.error ? job.error.message : "";
  $("hint").textContent = job.error ? job.error.hint : "";
  $("retry").hidden = working() || job.state === "succeeded";
  $("cancel").hidden = !working();
  if (player.playing || !$("lack").hidden) slim();
  if (before !== job.state && !working()) {
    ended = Date.now();
    look();
  }
}

const follow = () => followJob(jobId, { show, complain });

async function ask(what) {
  const refused = await askJob(jobId, what);
  if (refused) { complain(refused); return; }
  if (what === "retry") {
    $("retry").hidden = true;
    $("state").textContent = "Trying again";
    $("failure").hidden = true;
    // Until the coordinator has taken it up the status still says how it ended.
    const tag = (await fetch(jobPath(jobId))).headers.get("ETag");
    const look = () => fetch(jobPath(jobId), { headers: { "If-None-Match": tag }, cache: "no-store" })
      .then((a) => (a.status === 304 ? setTimeout(look, 500) : begin()), () => setTimeout(look, 2000));
    look();
  }
}

async function remove() {
  if (!confirm("Delete this film and all of its files? This cannot be undone.")) return;
  $("delete").disabled = true;
  complain("");
  const answer = await fetch(assetPath, { method: "DELETE" }).catch(() => null);
  if (answer && answer.ok) { location.assign("/"); return; }
  complain(await reason(answer));
  $("delete").disabled = false;
}

function begin() {
  page.dataset.state = "running";
  follow();
  look();
}

$("delete").onclick = remove;
$("retry").onclick = () => ask("retry");
$("cancel").onclick = () => ask("cancel");
if (jobId && working()) follow();
look();
