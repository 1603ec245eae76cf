// A folder's films: plays the one that the page's address names, and offers to convert what this browser cannot play.
"use strict";

const $ = (id) => document.getElementById(id);
const HLS_TYPE = "application/vnd.apple.mpegurl";
// A film that played and then broke off is fetched again this often, since its address may have expired.
const RELOADS = 5, RELOAD_MS = 2000;

let film = null; // the link of the film that is shown
let playing = ""; // the address of what plays
let stream = null;
let reloads = 0;
let starting = false; // play was asked for, and has not begun: a browser pauses what it cannot load

function say(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

function named() {
  try {
    const file = decodeURIComponent(location.hash.slice(1));
    return [...document.querySelectorAll(".titles a")].find((link) => link.dataset.file === file) ?? null;
  } catch {
    return null; // no percent-encoding
  }
}

// Whatever its public address, this page's own server has it.
function own(address) {
  const url = new URL(address, location.href);
  return url.pathname.startsWith("/v1/") ? url.pathname + url.search : address;
}

// Where the film can be had now; "" when that cannot be told.
async function fresh(link) {
  const path = `/v1/folders/${encodeURIComponent($("film").dataset.folder)}`;
  const answer = await fetch(path, { cache: "no-store" }).catch(() => null);
  const titles = answer?.ok ? (await answer.json()).titles : [];
  const address = titles.find((title) => title.key === link.dataset.key)?.play_url;
  return address ? own(address) : "";
}

function halt() {
  stream?.destroy();
  stream = null;
  playing = "";
  $("player").removeAttribute("src");
  $("player").load();
}

function show() {
  const link = named();
  if (link === film) return;
  halt();
  film?.removeAttribute("aria-current");
  film = link;
  reloads = 0;
  say($("problem"), "");
  $("film").hidden = !film;
  if (!film) return;
  film.setAttribute("aria-current", "true");
  $("title").textContent = film.querySelector(".name").textContent;
  $("stage").hidden = false;
  $("lack").hidden = true;
  if (film.dataset.url) play(film.dataset.url, 0, true);
  else lack();
  $("film").scrollIntoView({ block: "nearest" });
}

function play(address, at, run) {
  const video = $("player");
  playing = address;
  stream?.destroy();
  stream = null;
  say($("problem"), "");
  if (film.dataset.kind === "hls" && Stream.usable) {
    stream = new Stream(video, address, at, {
      levels: () => {}, languages: () => {}, live: () => {},
      waiting: (waiting) => say($("problem"), waiting ? "The connection was lost; trying again." : ""),
      refused: () => renew(),
      failed: () => lack(),
    });
  } else if (film.dataset.kind === "hls" && !video.canPlayType(HLS_TYPE)) {
    lack();
    return;
  } else {
    video.src = address;
    if (at) video.currentTime = at;
  }
  if (run) video.play().catch(() => {}); // a browser may want a gesture first
}

// The permission to watch a stream is over: goes on with a new one.
async function renew() {
  const link = film, address = await fresh(link);
  if (film === link && address && address !== playing) play(address, $("player").currentTime, !$("player").paused);
}

// The video element gave up on a file: its address has expired, the connection broke, or it cannot be decoded.
async function broken() {
  if (!film || !playing || stream) return;
  const link = film;
  if ($("player").currentTime) await new Promise((done) => { setTimeout(done, RELOAD_MS); });
  const address = await fresh(link);
  if (film !== link) return;
  const { currentTime: at, paused } = $("player"); // as people have them by now
  if (address && (at || address !== playing) && reloads < RELOADS) {
    reloads += 1;
    play(address, at, starting || !paused);
  } else {
    lack();
  }
}

function lack() {
  halt();
  const convertible = film.dataset.kind === "file";
  $("stage").hidden = true;
  $("lack").hidden = false;
  $("convert").hidden = !convertible;
  $("lacking").textContent = convertible ? "It can be converted into one that plays everywhere; the file stays as it is."
    : "It can decode H.264 video and AAC sound at best, and something of this stream is another, or damaged.";
}

async function convert() {
  $("convert").disabled = true;
  say($("problem"), "");
  const body = JSON.stringify({ type: "UploadReceived", data: { key: film.dataset.key } });
  const answer = await fetch("/v1/jobs", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
  const told = await answer?.json().catch(() => null);
  $("convert").disabled = false;
  if (answer?.ok && told) location.assign(new URL(told.watch_url, location.href).pathname);
  else say($("problem"), told?.detail ?? "The gateway did not answer.");
}

if ($("film")) {
  const video = $("player");
  video.addEventListener("error", broken);
  video.addEventListener("play", () => { starting = true; });
  video.addEventListener("playing", () => { starting = false; });
  video.addEventListener("pause", () => { if (!video.error) starting = false; });
  // Else every new source would be played at the ordinary speed.
  video.addEventListener("ratechange", () => { video.defaultPlaybackRate = video.playbackRate; });
  $("convert").addEventListener("click", convert);
  addEventListener("hashchange", show);
  show();
}
