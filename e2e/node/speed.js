// Runs one load of speed-load.js with one client, for ../bench. Prints the load's result as JSON, with the CPU time of
// the thread that ran it: a page's main thread, or Node's. Before that, the load runs half as long to warm up.
//
//   node speed.js chromium|node CLIENT LOAD URL MS
//
//   {"count": 123456, "micros": 4.56, "script_micros": 4.12}
//
// A page's times are the browser's own (Performance.getMetrics): micros is TaskDuration for each message, script_micros
// is ScriptDuration, both in CPU time. Nothing else of DevTools is on, and so no Playwright: events about each message
// of a WebSocket would cost more than the clients do.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { runInThisContext } from "node:vm";
import { WebSocket } from "ws";
import { browserArguments, findBrowser } from "./browser.js";

const [place, client, load, url, ms] = process.argv.slice(2);
const code = execFileSync(process.execPath, ["bundle.js", "speed-load.js"], {
  cwd: fileURLToPath(new URL(".", import.meta.url)),
  encoding: "utf8",
  maxBuffer: 1 << 26,
});

/** Runs and prints the load with a place's functions: run resolves to its result, times to the thread's times so far, in µs. */
async function measure({ run, times }) {
  await run(ms / 2);
  const before = await times();
  const said = await run(Number(ms));
  const after = await times();
  for (const [name, time] of Object.entries(said.count ? after : {})) {
    said[name] = (time - before[name]) / said.count;
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

async function inNode() {
  globalThis.WebSocket ??= WebSocket; // Node has its own from version 22 on
  globalThis.self = globalThis;
  runInThisContext(code);
  await measure({
    run: (ms) => globalThis.runLoad(client, load, url, ms),
    // The main thread's, with what the garbage collector does there.
    times: () => ({ micros: Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[0]) / 1e3 }),
  });
  process.exit(); // what is open doesn't matter
}

async function inChromium() {
  const dir = mkdtempSync(join(tmpdir(), "culvert-speed-"));
  const browser = spawn(findBrowser(), [...browserArguments, "--remote-debugging-port=0", `--user-data-dir=${dir}`, "about:blank"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = new Promise((resolve) => browser.on("close", resolve));
  process.on("exit", () => browser.kill("SIGKILL"));
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => process.exit(1));
  }
  try {
    const address = await devTools(browser);
    // A page of culvert's address, whichever: calls then stay within their origin.
    const opened = await fetch(`http://${address}/json/new?about:blank`, { method: "PUT" });
    const page = await openPage((await opened.json()).webSocketDebuggerUrl);
    await page.load(url);
    await page.evaluate(code);
    await page.send("Performance.enable", { timeDomain: "threadTicks" });
    await measure({
      run: (ms) => page.evaluate(`runLoad(${[client, load, url, ms].map((a) => JSON.stringify(a))})`),
      async times() {
        const { metrics } = await page.send("Performance.getMetrics");
        const micros = (name) => 1e6 * metrics.find((m) => m.name === name).value;
        return { micros: micros("TaskDuration"), script_micros: micros("ScriptDuration") };
      },
    });
  } finally {
    browser.kill();
    await exited;
    rmSync(dir, { recursive: true, maxRetries: 10 });
  }
}

/** Resolves to the address of a browser's DevTools. */
async function devTools(browser) {
  const lines = [];
  for await (const line of createInterface({ input: browser.stderr })) {
    lines.push(line);
    const found = /^DevTools listening on ws:\/\/([^/]+)/.exec(line);
    if (found) {
      browser.stderr.resume(); // or the browser waits once the pipe is full
      return found[1];
    }
  }
  throw new Error(`the browser ended:\n${lines.join("\n")}`);
}

/** Connects with a page by the DevTools protocol. */
async function openPage(debugger_) {
  const socket = new WebSocket(debugger_, { maxPayload: 0 });
  const replies = new Map();
  let loaded;
  socket.on("message", (data) => {
    const { id, method, result, error } = JSON.parse(data);
    if (method === "Page.loadEventFired") {
      loaded();
    }
    replies.get(id)?.(error ? Promise.reject(new Error(error.message)) : result);
    replies.delete(id);
  });
  await new Promise((resolve, reject) => {
    socket.on("open", resolve);
    socket.on("error", reject);
  });
  let last = 0;
  const send = (method, params = {}) =>
    new Promise((resolve) => {
      replies.set(++last, resolve);
      socket.send(JSON.stringify({ id: last, method, params }));
    });
  return {
    send,
    async load(url) {
      await send("Page.enable");
      const done = new Promise((resolve) => {
        loaded = resolve;
      });
      const { errorText } = await send("Page.navigate", { url });
      if (errorText) {
        throw new Error(`${url}: ${errorText}`);
      }
      await done;
      await send("Page.disable");
    },
    async evaluate(expression) {
      const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
      if (exceptionDetails) {
        throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
      }
      return result.value;
    },
  };
}

await (place === "node" ? inNode() : inChromium());
process.exit();
