// Uploads a film with progress, and lets cards of films at work follow their state.
"use strict";

const $ = (id) => document.getElementById(id);
let running = null;

function bytes(size) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) { size /= 1000; unit += 1; }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

function chosen() {
  const file = $("file").files[0];
  $("send").disabled = !file || running !== null;
  $("size").hidden = !file;
  $("size").textContent = file ? `${file.name}, ${bytes(file.size)}` : "";
  if (file && !$("title").value) {
    $("title").placeholder = file.name.replace(/\.[^.]*$/, "").replaceAll("_", " ");
  }
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function done(text) {
  running = null;
  $("progress").hidden = true;
  complain(text);
  chosen();
}

function upload(event) {
  event.preventDefault();
  const file = $("file").files[0];
  if (!file || running) return;
  complain("");
  const query = $("title").value.trim() ? `?title=${encodeURIComponent($("title").value.trim())}` : "";
  const request = running = new XMLHttpRequest();
  request.open("PUT", `/v1/uploads/${encodeURIComponent(file.name)}${query}`);
  request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
  $("send").disabled = true;
  $("progress").hidden = false;
  $("bar").value = 0;
  $("said").textContent = "Beginning";
  request.upload.onprogress = (e) => {
    $("bar").value = e.loaded / file.size;
    $("said").textContent = `${bytes(e.loaded)} of ${bytes(file.size)} (${Math.floor((100 * e.loaded) / file.size)} %)`;
  };
  request.upload.onload = () => { $("said").textContent = "All sent; waiting for the confirmation"; };
  request.onload = () => {
    if (request.status === 202) {
      const accepted = JSON.parse(request.responseText);
      location.assign(`/watch/${encodeURIComponent(accepted.asset_id)}`);
      return;
    }
    let detail = `The gateway answered ${request.status}.`;
    try { detail = JSON.parse(request.responseText).detail; } catch { /* it said nothing more */ }
    done(detail);
  };
  request.onerror = () => done("The connection broke; nothing was kept. Try again.");
  request.onabort = () => done("");
  request.send(file);
}

// Cards of films at work: one request for all of them every two seconds, and a reload when one has ended.
function cards() {
  const working = [...document.querySelectorAll(".card")].filter((card) => WORKING.includes(card.dataset.state));
  if (!working.length) return;
  Promise.all(working.slice(0, 20).map((card) =>
    fetch(`/v1/assets/${encodeURIComponent(card.dataset.asset)}`).then((a) => (a.ok ? a.json() : null)).then((asset) => {
      if (!asset) return false;
      const bar = card.querySelector("progress");
      if (bar) bar.value = asset.progress;
      return !WORKING.includes(asset.state);
    }),
  )).then((ended) => {
    const busy = running !== null || $("file").files.length || document.querySelector("input[name=assets]:checked");
    if (ended.some(Boolean) && !busy) location.reload();
    else setTimeout(cards, 2000);
  }).catch(() => setTimeout(cards, 5000));
}

$("file").addEventListener("change", chosen);
$("upload").addEventListener("submit", upload);
$("stop").addEventListener("click", () => running && running.abort());
chosen();
setTimeout(cards, 2000);
