// Follows a job by server-sent events, by polling where they fail, and says in words how far it is.
"use strict";

const WORKING = ["queued", "planning", "running", "finishing"];

const jobPath = (id) => `/v1/jobs/${encodeURIComponent(id)}`;

function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function jobWords(job) {
  const said = [];
  if (job.waiting_for) said.push(job.waiting_for);
  else if (job.note) said.push(job.note);
  if (job.state !== "queued" && job.progress > 0) said.push(`${Math.round(job.progress * 100)} %`);
  if (job.eta_seconds !== null && WORKING.includes(job.state)) said.push(`about ${duration(job.eta_seconds)} to go`);
  if (job.attempt_count > 0 && WORKING.includes(job.state)) said.push(`${job.attempt_count} failed attempt${job.attempt_count > 1 ? "s" : ""} so far`);
  return said.join(" · ");
}

function say(element, text) {
  // Writing the same text again would be read out again.
  if (element.textContent !== text) element.textContent = text;
}

// Until the job has ended. `show` gets each status, `complain` what is wrong with the connection, "" when it is well again; `gone` is
// called, where there is one, when nobody knows of such a job any more.
function followJob(id, { show, complain, gone }) {
  function heard(job) {
    complain("");
    show(job);
    return WORKING.includes(job.state);
  }
  function poll(tag) {
    const headers = tag ? { "If-None-Match": tag } : {};
    fetch(`${jobPath(id)}?wait=25`, { headers }).then(async (answer) => {
      if (answer.status === 200 && !heard(await answer.json())) return;
      if (answer.status === 404 && gone) { gone(); return; }
      const later = answer.status === 200 || answer.status === 304 ? 200 : 3000;
      setTimeout(() => poll(answer.headers.get("ETag") || tag), later);
    }).catch(() => {
      complain("The connection was lost; trying again.");
      setTimeout(() => poll(tag), 3000);
    });
  }
  if (!window.EventSource) { poll(""); return; }
  const stream = new EventSource(`${jobPath(id)}/events`);
  stream.addEventListener("status", (event) => {
    if (!heard(JSON.parse(event.data))) stream.close();
  });
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED) poll("");
  };
}

// A wish about a job, such as `cancel`. Answers "" when it was heard, else why not.
async function askJob(id, wish) {
  const answer = await fetch(`${jobPath(id)}/${wish}`, { method: "POST" }).catch(() => null);
  return answer && answer.ok ? "" : reason(answer);
}

// What a refusal says, in words. `answer`: null where there was none.
async function reason(answer) {
  const problem = answer ? await answer.json().catch(() => null) : null;
  if (problem && problem.detail) return problem.detail;
  return answer ? `The gateway answered ${answer.status}.` : "The gateway did not answer.";
}
