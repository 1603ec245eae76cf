// The player: finds out by which means this browser can play the film, and takes the next one when one fails.
"use strict";

const HLS_TYPE = "application/vnd.apple.mpegurl";
const RENEW_AT = 0.8; // of the time that a permission to play holds
const LEAST_MS = 10_000, MOST_MS = 86_400_000; // between two renewals
// A file that played and then broke off is fetched again this often, since its address may have expired.
const RELOADS = 5, RELOAD_MS = 2000;

class Player {
  #stage;
  #on;
  #video = null;
  #renditions = new Renditions();
  #audioTracks = new AudioTracks();
  #asset = null;
  #means = "";
  #failed = new Set(); // means
  #path = ""; // of the stream that plays
  #stream = null;
  #reload = null;
  #reloads = 0;
  #starting = false; // play was asked for, and has not begun: a browser pauses what it cannot load
  #renewal = 0;

  // `on`: permit(), which asks for the permission to play and answers it, or null; fresh(), the film as it is now, or null;
  // playing(); waiting(boolean); lacking(words, files).
  constructor(stage, on) {
    this.#stage = stage;
    this.#on = on;
  }

  get playing() { return this.#means !== ""; }

  // What there is to play now. To be called again whenever that may have changed.
  async offer(asset) {
    this.#asset = asset;
    const [best] = this.#possible();
    if (best && (!this.#means || this.#better(best))) await this.#begin(best);
    else if (!best && !this.#means && (asset.hls_url || asset.renditions.length)) this.#on.lacking(this.#words(), asset.renditions);
    if (this.#means) this.#adorn();
  }

  // Whether something else should be played. What somebody watches is left alone.
  #better(best) {
    if (!this.#video.paused || this.#video.currentTime > 0) return false;
    return best === "files" ? false : this.#means === "files" || here(this.#asset.hls_url) !== this.#path;
  }

  // Means in the order of preference. Chromium says that it may play HLS by itself, which is why hls.js comes first, and files before its own HLS.
  #possible() {
    const { hls_url: hls, renditions } = this.#asset;
    const video = document.createElement("video");
    const native = hls && Boolean(video.canPlayType?.(HLS_TYPE));
    const sources = hasMediaSource();
    const means = [];
    if (hls && Stream.usable) means.push("stream");
    if (native && !sources) means.push("native");
    if (renditions.some((file) => video.canPlayType?.(typeOf(file)))) means.push("files");
    if (native && sources && !means.includes("stream")) means.push("native");
    return means.filter((each) => !this.#failed.has(each));
  }

  async #begin(means, at = 0, run = false) {
    const ticket = means === "files" ? null : await this.#permit();
    if (means !== "files" && !ticket) {
      if (this.#means || !this.#possible().includes("files")) return;
      means = "files";
    }
    this.#assemble();
    // Somebody may have pressed play by now: on what the page came with, or while the permission was asked for.
    at ||= this.#video.currentTime;
    run ||= this.#wanted;
    this.#stream?.destroy();
    this.#stream = null;
    this.#means = means;
    this.#reloads = 0;
    this.#renditions.offer([], () => {});
    this.#audioTracks.offer([], -1, () => {});
    this.#video.replaceChildren(...this.#video.querySelectorAll("track"));
    if (means === "stream") this.#beginStream(here(ticket.hls_url), at);
    else if (means === "native") this.#beginNative(at);
    else this.#beginFiles(at);
    if (run) this.#run();
    this.#on.playing();
  }

  #beginStream(path, at) {
    this.#path = path;
    this.#video.removeAttribute("src");
    this.#stream = new Stream(this.#video, path, at, {
      levels: (hls) => this.#renditions.offer(hls.levels, (index) => { hls.nextLevel = index; }),
      languages: (hls) => this.#audioTracks.offer(hls.audioTracks, Math.max(0, hls.audioTrack), (index) => { hls.audioTrack = index; }),
      live: (live) => this.#live(live),
      waiting: (waiting) => this.#on.waiting(waiting),
      refused: () => this.#permit(),
      failed: () => this.#fail(),
    });
  }

  #beginNative(at) {
    this.#path = here(this.#asset.hls_url);
    // With the token in the address: what a television is handed by AirPlay is fetched without our cookie.
    this.#reload = (time) => this.#load(this.#asset.hls_url, time);
    this.#reload(at);
  }

  // MP4. "Auto" is the smallest that fills the player.
  #beginFiles(at) {
    const files = () => this.#asset.renditions.filter((file) => this.#video.canPlayType(typeOf(file)));
    const wanted = this.#video.clientHeight * (window.devicePixelRatio || 1);
    const auto = Math.max(0, files().findLastIndex((file) => Math.min(file.width, file.height) >= wanted));
    let chosen = -1;
    this.#live(false);
    this.#reload = (time) => this.#load((files()[chosen] ?? files()[auto]).url, time);
    this.#renditions.offer(files().map(({ width, height, bit_rate: bitrate }) => ({ width, height, bitrate })), (index) => {
      const { currentTime, paused } = this.#video;
      chosen = index;
      this.#reload(currentTime);
      if (!paused) this.#run();
    });
    this.#reload(at);
  }

  #load(url, at) {
    this.#video.src = url;
    if (at) this.#video.currentTime = at;
  }

  #run() { this.#video.play().catch(() => {}); } // a browser may want a gesture first

  get #wanted() { return this.#starting || !this.#video.paused; }

  // The video element gave up on an address.
  async #broken() {
    if (this.#means !== "native" && this.#means !== "files") return;
    if (this.#video.currentTime === 0 || this.#reloads === RELOADS) { await this.#fail(); return; }
    this.#reloads += 1;
    this.#on.waiting(true);
    await new Promise((done) => { setTimeout(done, RELOAD_MS * this.#reloads); });
    this.#asset = await this.#on.fresh() ?? this.#asset;
    const run = this.#wanted;
    this.#reload(this.#video.currentTime);
    if (run) this.#run();
  }

  async #fail() {
    const at = this.#video.currentTime, run = this.#wanted;
    this.#failed.add(this.#means);
    this.#means = "";
    this.#stream?.destroy();
    this.#stream = null;
    const [next] = this.#possible();
    if (next) await this.#begin(next, at, run);
    else this.#on.lacking(this.#words(), this.#asset.renditions);
  }

  // Asks for the permission to play, and again before it ends.
  async #permit() {
    const ticket = await this.#on.permit();
    clearTimeout(this.#renewal);
    if (ticket) {
      const left = Date.parse(ticket.expires_at) - Date.now();
      this.#renewal = setTimeout(() => this.#permit(), Math.min(Math.max(left * RENEW_AT, LEAST_MS), MOST_MS));
    } else if (this.#means) {
      this.#renewal = setTimeout(() => this.#permit(), LEAST_MS);
    }
    return ticket;
  }

  #live(live) {
    const type = live ? "live" : "on-demand";
    if (this.#video.streamType === type) return;
    this.#video.streamType = type;
    this.#video.dispatchEvent(new Event("streamtypechange"));
  }

  // What may come later than the film: its poster, its shape, pictures along the seek bar.
  #adorn() {
    const { poster_url: poster, width, height, has_video: pictured, storyboard_url: storyboard } = this.#asset;
    if (poster && !this.#video.poster) this.#video.poster = poster;
    if (width && height) this.#shape(width, height);
    if (pictured === false) this.#sound(true);
    if (storyboard && this.#path) this.#previews(here(storyboard));
  }

  #shape(width, height) { this.#stage.style.setProperty("--shape", `${width} / ${height}`); }

  #sound(only) {
    this.#stage.classList.toggle("audio", only);
    this.#stage.querySelector(".sound")?.toggleAttribute("hidden", !only);
    // There is no picture that the controls would hide.
    for (const bar of this.#stage.querySelectorAll("media-control-bar")) bar.toggleAttribute("noautohide", only);
  }

  #previews(src) {
    if (this.#video.querySelector("track[label=thumbnails]")) return;
    const track = document.createElement("track");
    Object.assign(track, { kind: "metadata", label: "thumbnails", default: true, src });
    this.#video.append(track);
  }

  #assemble() {
    this.#stage.hidden = false;
    if (this.#video) return;
    const video = this.#video = this.#stage.querySelector("video") ?? document.createElement("video");
    Object.assign(video, { id: "player", playsInline: true, preload: "metadata" });
    // Own properties hide those that a browser may have.
    for (const [name, value] of Object.entries({ videoRenditions: this.#renditions, audioTracks: this.#audioTracks, streamType: undefined })) {
      Object.defineProperty(video, name, { value, writable: true });
    }
    video.addEventListener("error", () => this.#broken());
    video.addEventListener("play", () => { this.#starting = true; });
    video.addEventListener("playing", () => {
      this.#starting = false;
      if (this.#reloads) { this.#reloads = 0; this.#on.waiting(false); }
    });
    video.addEventListener("pause", () => { if (!video.error) this.#starting = false; });
    // Else every new source would be played at the ordinary speed.
    video.addEventListener("ratechange", () => { video.defaultPlaybackRate = video.playbackRate; });
    video.addEventListener("durationchange", () => video.dispatchEvent(new Event("seekablechange")));
    video.addEventListener("loadedmetadata", () => {
      if (video.videoWidth) this.#shape(video.videoWidth, video.videoHeight);
      this.#sound(!video.videoWidth);
    });
    if (customElements.get("media-controller")) {
      // Imported, since a template's content is of another document: a video that passes through one begins anew.
      const controls = document.importNode(document.getElementById("controls").content, true);
      video.controls = false;
      video.slot = "media";
      controls.querySelector("media-controller").prepend(video);
      this.#stage.replaceChildren(controls);
    } else {
      video.controls = true;
      this.#stage.replaceChildren(video);
    }
  }

  // Why there is no means left.
  #words() {
    const { hls_url: hls, renditions } = this.#asset;
    const said = [];
    if (!document.createElement("video").canPlayType) said.push("It knows no video element.");
    else if (hls && typeof Hls === "undefined") said.push("The script hls.js did not arrive; something may have blocked it.");
    else if (hls && !hasMediaSource()) said.push("It has neither Media Source Extensions nor HLS of its own.");
    else if (hls) said.push("It cannot decode the stream: H.264 video and AAC sound.");
    if (!renditions.length) said.push("When the conversion is over, the film may play here as an MP4 file.");
    else said.push("It cannot decode the MP4 files: H.264 video. A current Chrome, Edge, Firefox or Safari can, or another program:");
    return said.join(" ");
  }
}

function hasMediaSource() { return "MediaSource" in window || "ManagedMediaSource" in window; }

function typeOf(file) { return file.codecs ? `${file.content_type}; codecs="${file.codecs}"` : file.content_type; }

// Whatever its public address, this page's own server has it, and the cookie, which opens it, belongs to this page's address.
function here(url) { return new URL(url, location.href).pathname; }
