// A client under test for connectrpc.com/conformance: @culvert/web. It reads
// ClientCompatRequests from standard input and writes ClientCompatResponses to
// standard output, each with its length before it.
//
//   node conformance.js node|chromium DESCRIPTORS
//
// DESCRIPTORS is a file with the suite's FileDescriptorSet.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { register } from "node:module";
import { fileURLToPath } from "node:url";

const [place, file] = process.argv.slice(2);
const descriptors = readFileSync(file);

async function inNode() {
  register("./culvert-web.js", import.meta.url);
  const { answerer } = await import("./conformance-call.js"); // not before that
  const { WebSocket } = await import("ws");
  return { answer: answerer(descriptors, globalThis.WebSocket ?? WebSocket), stop() {} }; // Node has its own from version 22 on
}

async function inChromium() {
  const { launch } = await import("./browser.js");
  const script = execFileSync(process.execPath, ["bundle.js", "conformance-page.js"], {
    cwd: fileURLToPath(new URL(".", import.meta.url)),
    maxBuffer: 1 << 26,
  });
  const server = createServer((request, response) => {
    const page = request.url === "/";
    response.setHeader("content-type", page ? "text/html" : "text/javascript");
    response.end(page ? "<!doctype html><meta charset=utf-8><title>conformance</title><script src=page.js></script>" : script);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const browser = await launch();
  const page = await browser.newPage();
  page.on("pageerror", (e) => console.error(e.stack));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate((d) => window.begin(d), descriptors.toString("base64"));
  const answer = async (bytes) => Buffer.from(await page.evaluate((r) => window.answer(r), bytes.toString("base64")), "base64");
  const stop = async () => {
    await browser.close();
    server.close();
  };
  return { answer, stop };
}

async function* messages() {
  let unread = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    unread = Buffer.concat([unread, chunk]);
    while (unread.length >= 4 && unread.length >= 4 + unread.readUInt32BE()) {
      const end = 4 + unread.readUInt32BE();
      yield unread.subarray(4, end);
      unread = unread.subarray(end);
    }
  }
}

const { answer, stop } = await (place === "node" ? inNode() : inChromium());
const mostAtOnce = 8; // with all of them, a slow machine would make calls late that tell their time
const running = new Set();
for await (const request of messages()) {
  if (running.size >= mostAtOnce) {
    await Promise.race(running);
  }
  const one = answer(request).then((response) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(response.length);
    process.stdout.write(Buffer.concat([length, response]));
    running.delete(one);
  });
  running.add(one);
}
await Promise.all(running);
await stop();
process.exit(); // connections that are idle would keep it for a minute
