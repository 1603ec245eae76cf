// The keys that people know from other players. They can be turned off, as WCAG 2.1.4 asks.
"use strict";

const SETTING = "reelworks-keys";
const RATES = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];

function end(video) { return video.seekable.length ? video.seekable.end(video.seekable.length - 1) : 0; }

function seek(video, to) { video.currentTime = Math.max(0, Math.min(to, end(video))); }

function request(video, name) {
  video.closest("media-controller")?.dispatchEvent(new CustomEvent(name, { bubbles: true, composed: true }));
}

function rate(video, step) {
  const next = step > 0 ? RATES.find((each) => each > video.playbackRate) : RATES.findLast((each) => each < video.playbackRate);
  if (next) video.playbackRate = next;
}

function toggle(video) {
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

const ANYWHERE = {
  " ": toggle,
  k: toggle,
  j: (video) => seek(video, video.currentTime - 10),
  l: (video) => seek(video, video.currentTime + 10),
  ArrowLeft: (video) => seek(video, video.currentTime - 5),
  ArrowRight: (video) => seek(video, video.currentTime + 5),
  m: (video) => { video.muted = !video.muted; },
  f: (video) => request(video, document.fullscreenElement ? "mediaexitfullscreenrequest" : "mediaenterfullscreenrequest"),
  c: (video) => request(video, "mediatogglesubtitlesrequest"),
  "<": (video) => rate(video, -1),
  ">": (video) => rate(video, 1),
};
// Elsewhere they scroll the page.
const IN_PLAYER = {
  ArrowUp: (video) => { video.volume = Math.min(1, video.volume + 0.05); },
  ArrowDown: (video) => { video.volume = Math.max(0, video.volume - 0.05); },
  Home: (video) => seek(video, 0),
  End: (video) => seek(video, end(video)),
};

// Whether the element that has the focus needs this key itself.
function taken(key, path) {
  const is = (selector) => path.some((each) => each instanceof Element && each.matches(selector));
  if (is("textarea, select, input:not([type=range]), [contenteditable]")) return true;
  if (key === " " || key === "Enter") return is("button, a, summary, [role=button], [role=menu]");
  if (/^(Arrow|Home|End)/.test(key)) return is("[role=menu], media-volume-range");
  return false;
}

function pressed(event) {
  const video = document.getElementById("player"), path = event.composedPath();
  if (!video || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || taken(event.key, path)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const inside = path.includes(document.getElementById("stage"));
  const act = /^[0-9]$/.test(key) ? () => seek(video, (end(video) * Number(key)) / 10) : ANYWHERE[key] ?? (inside && IN_PLAYER[key]);
  if (!act) return;
  event.preventDefault();
  act(video);
}

function remembered() {
  try { return localStorage.getItem(SETTING); } catch { return null; } // where nothing may be stored
}

function remember(value) {
  try { localStorage.setItem(SETTING, value); } catch { /* it holds for this page */ }
}

{
  const box = document.getElementById("keys-on");
  box.checked = remembered() !== "off";
  box.addEventListener("change", () => remember(box.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => { if (box.checked) pressed(event); });
}
