// Prints, as a JSON list, the CSP hashes of every <style> that media-chrome's elements put into their shadow roots.
import { createHash } from "node:crypto";
import * as chrome from "media-chrome/dist/all.js";

const found = new Set();
for (const element of Object.values(chrome)) {
  if (typeof element !== "function" || !element.getTemplateHTML) continue;
  for (const style of element.getTemplateHTML({}, {}).matchAll(/<style[^>]*>([\s\S]*?)<\/style>/g)) {
    found.add(`sha256-${createHash("sha256").update(style[1]).digest("base64")}`);
  }
}
console.log(JSON.stringify([...found].sort()));
