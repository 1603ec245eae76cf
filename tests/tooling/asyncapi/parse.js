// Parses the AsyncAPI documents that are named, and prints for each what the official parser says of it, one JSON object a line.
const fs = require("fs");
const { Parser } = require("@asyncapi/parser");

async function main() {
  const parser = new Parser();
  for (const path of process.argv.slice(2)) {
    const { document, diagnostics } = await parser.parse(fs.readFileSync(path, "utf8"), { source: path });
    const said = diagnostics.map((d) => ({ severity: d.severity, code: d.code, message: d.message, path: d.path.join("/") }));
    const channels = document ? document.channels().all() : [];
    console.log(JSON.stringify({
      accepted: document !== undefined,
      version: document ? document.version() : "",
      channels: Object.fromEntries(channels.map((c) => [c.address(), c.messages().all().map((m) => m.name())])),
      diagnostics: said,
    }));
  }
}

main();
