// Lists of renditions and of sound tracks, as media-chrome's menus expect them of a media element.
// https://github.com/video-dev/media-tracks proposes videoRenditions; audioTracks are HTML's, but few browsers have them.
"use strict";

class TrackList extends EventTarget {
  #length = 0;

  get length() { return this.#length; }

  [Symbol.iterator]() { return Array.prototype[Symbol.iterator].call(this); }

  replace(items, removed, added) {
    const before = this.#length;
    for (let i = 0; i < before; i += 1) delete this[i];
    Object.assign(this, items);
    this.#length = items.length;
    if (before) this.dispatchEvent(new Event(removed));
    if (items.length) this.dispatchEvent(new Event(added));
  }
}

// `choose(index)` is told what a person chose; -1 stands for automatic.
class Renditions extends TrackList {
  #selected = -1;
  #choose = () => {};

  get selectedIndex() { return this.#selected; }

  set selectedIndex(index) {
    this.#selected = index;
    this.#choose(index);
    this.dispatchEvent(new Event("change"));
  }

  // `levels`: {width, height, bitrate} each. Of a single one there is no choice.
  offer(levels, choose) {
    this.#choose = choose;
    this.#selected = -1;
    const items = levels.length > 1 ? levels.map(({ width, height, bitrate }, id) => ({ id: `${id}`, width, height, bitrate })) : [];
    this.replace(items, "removerendition", "addrendition");
  }
}

class AudioTracks extends TrackList {
  // `tracks`: {name, lang} each.
  offer(tracks, enabled, choose) {
    let chosen = enabled;
    const list = this;
    const items = tracks.map(({ name, lang }, index) => ({
      id: `${index}`, kind: index ? "alternative" : "main", label: name, language: lang || "",
      get enabled() { return chosen === index; },
      set enabled(wanted) {
        if (!wanted || chosen === index) return;
        chosen = index;
        choose(index);
        list.dispatchEvent(new Event("change"));
      },
    }));
    this.replace(items, "removetrack", "addtrack");
  }
}
