// Makes an archive of the films that are selected: asks for it, shows how far it is, leads to it.
"use strict";

const KEPT = "reelworks-archive"; // the job's id, so that a reload of the page goes on with it
const SAID = {
  queued: "Waiting to start", planning: "Looking at the films", running: "Putting the archive together", finishing: "Finishing",
  succeeded: "The archive is ready.", failed: "The archive could not be made.", cancelled: "Cancelled",
};
let jobId = remembered();
let busy = false; // one is being asked for or made

const boxes = () => [...document.querySelectorAll("input[name=assets]:not(:disabled)")];

function remember(id) {
  jobId = id;
  // Without storage, which some people forbid, a reload forgets it.
  try { if (id) sessionStorage.setItem(KEPT, id); else sessionStorage.removeItem(KEPT); } catch { /* so be it */ }
}

function remembered() {
  try { return sessionStorage.getItem(KEPT); } catch { return null; }
}

function select() {
  const all = boxes(), picked = all.filter((box) => box.checked);
  $("all").disabled = all.length === 0;
  $("all").checked = picked.length > 0 && picked.length === all.length;
  $("all").indeterminate = picked.length > 0 && picked.length < all.length;
  $("pack").disabled = picked.length === 0 || busy;
  const size = picked.reduce((sum, box) => sum + Number(box.dataset.size), 0);
  say($("picked"), picked.length ? `${picked.length} selected, ${bytes(size)}` : "");
}

function wrong(text) {
  $("archive").hidden = false;
  $("archive-problem").textContent = text;
  $("archive-problem").hidden = !text;
}

function show(job) {
  const working = WORKING.includes(job.state), made = job.outputs.find((output) => output.role === "archive");
  $("archive").hidden = false;
  $("archive-title").textContent = `Archive: ${job.title}`;
  say($("archive-state"), SAID[job.state]);
  $("archive-bar").hidden = !working;
  $("archive-bar").value = job.progress;
  $("archive-words").textContent = working ? jobWords(job) : job.error?.hint ?? "";
  $("archive-link").hidden = !made;
  if (made) {
    $("archive-link").textContent = `Download (${bytes(made.size)})`;
    $("archive-link").href = made.url;
  }
  $("archive-cancel").hidden = !working;
  $("archive-close").hidden = working;
  if (job.error) wrong(job.error.message);
  occupied(working);
}

function occupied(yes) {
  busy = yes;
  select();
}

function follow() {
  occupied(true);
  followJob(jobId, { show, complain: wrong, gone: away });
}

function away() {
  remember(null);
  $("archive").hidden = true;
  occupied(false);
}

async function pack(event) {
  event.preventDefault();
  const assets = boxes().filter((box) => box.checked).map((box) => box.value);
  if (!assets.length || busy) return;
  occupied(true);
  const answer = await fetch("/v1/archives", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ assets }),
  }).catch(() => null);
  if (!answer || !answer.ok) {
    for (const id of ["archive-bar", "archive-link", "archive-cancel"]) $(id).hidden = true;
    $("archive-close").hidden = false;
    $("archive-title").textContent = "Archive";
    say($("archive-state"), "The archive was not begun.");
    $("archive-words").textContent = "";
    wrong(await reason(answer));
    occupied(false);
    return;
  }
  wrong("");
  for (const box of boxes()) box.checked = false;
  remember((await answer.json()).job_id);
  follow();
}

// The link's signature expires while the page is open: each time a fresh one is asked for.
async function save(event) {
  event.preventDefault();
  const answer = await fetch(jobPath(jobId), { cache: "no-store" }).catch(() => null);
  const made = answer && answer.ok ? (await answer.json()).outputs.find((output) => output.role === "archive") : null;
  if (made) location.assign(made.url);
  else wrong(answer && answer.status === 404 ? "This archive is not known any more. Make it again." : "The gateway did not answer. Try again.");
}

async function cancel() {
  const refused = await askJob(jobId, "cancel");
  if (refused) wrong(refused);
}

for (const label of document.querySelectorAll(".pick")) label.hidden = false;
$("picking").hidden = !document.querySelector(".pick");
document.addEventListener("change", (event) => {
  if (event.target === $("all")) for (const box of boxes()) box.checked = $("all").checked;
  if (event.target === $("all") || event.target.name === "assets") select();
});
$("picking").addEventListener("submit", pack);
$("archive-link").addEventListener("click", save);
$("archive-cancel").addEventListener("click", cancel);
$("archive-close").addEventListener("click", away);
select();
if (jobId) follow();
