// HLS by hls.js. A playlist that grows is played from its beginning and becomes an ordinary one when it ends. Outages are stalls: what
// fails is tried again for as long as the page is open.
"use strict";

const REFUSED = [401, 403];
const RETRY_SECONDS = [1, 2, 4, 8, 15];
// A decoder that was restarted twice within this time will not do better the third time.
const RECOVERY_MS = 30_000;

class Stream {
  #hls;
  #url;
  #on;
  #tries = 0;
  #timer = 0;
  #recoveries = [];

  static get usable() { return typeof Hls !== "undefined" && Hls.isSupported(); }

  // `on`: levels(hls), languages(hls), live(boolean), waiting(boolean), refused() when it is not allowed any more, failed() when this way of
  // playing is over.
  constructor(video, url, startPosition, on) {
    this.#url = url;
    this.#on = on;
    this.#hls = new Hls({
      startPosition,
      capLevelToPlayerSize: true,
      backBufferLength: 90, // seconds; else a long film fills what a browser grants
      // Fragments are MP4 already, so little is left for a worker; without it the content policy allows no blob: scripts.
      enableWorker: false,
    });
    // Nobody is to be brought to the edge of what is encoded: who waits there would be sent back by three segments.
    Object.defineProperty(this.#hls, "liveSyncPosition", { value: null });
    this.#hls.on(Hls.Events.MANIFEST_PARSED, () => on.levels(this.#hls));
    this.#hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, () => on.languages(this.#hls));
    this.#hls.on(Hls.Events.LEVEL_UPDATED, (_, { details }) => on.live(details.live));
    this.#hls.on(Hls.Events.FRAG_BUFFERED, () => this.#well());
    this.#hls.on(Hls.Events.ERROR, (_, error) => {
      // Also when hls.js will ask again by itself, half a minute long: without a new permission it will be refused again.
      if (REFUSED.includes(error.response?.code)) on.refused();
      if (error.fatal) this.#recover(error);
    });
    this.#hls.attachMedia(video);
    this.#hls.loadSource(url);
  }

  destroy() {
    clearTimeout(this.#timer);
    this.#hls.destroy();
  }

  #well() {
    if (this.#tries) this.#on.waiting(false);
    this.#tries = 0;
  }

  #recover({ type, details }) {
    if (type === Hls.ErrorTypes.NETWORK_ERROR) {
      this.#again();
    } else if (type === Hls.ErrorTypes.MEDIA_ERROR && details !== Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) {
      const now = Date.now();
      this.#recoveries = [...this.#recoveries.filter((at) => now - at < RECOVERY_MS), now];
      if (this.#recoveries.length > 2) this.#on.failed();
      else this.#hls.recoverMediaError();
    } else {
      this.#on.failed();
    }
  }

  #again() {
    const seconds = RETRY_SECONDS[Math.min(this.#tries, RETRY_SECONDS.length - 1)];
    this.#tries += 1;
    this.#on.waiting(true);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#hls.levels.length) this.#hls.startLoad();
      else this.#hls.loadSource(this.#url);
    }, seconds * 1000);
  }
}
