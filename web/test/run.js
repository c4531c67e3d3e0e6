// Builds the tests (test/**/*.test.ts) and runs them in Node and in Chromium, the long ones also
// in Firefox. The last line of output has the number of tests that passed and failed.

import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { names as browsers, launch } from "./browsers.js";
import { startServers } from "./servers.js";

const usage = `usage: node test/run.js [--place node|chromium|firefox] [--oldest] [--long] [--patience MS] [--times] [NAME]
NAME is a part of "file: test"; other tests don't run. --oldest runs the tests of calls, of the fallback and of private
functions with the oldest connect-es that the package takes. --long takes minutes, and runs in Firefox, too. --times shows the slowest tests.`;

let options;
try {
  options = parseArgs({
    allowPositionals: true,
    options: {
      place: { type: "string" },
      oldest: { type: "boolean" },
      long: { type: "boolean" },
      patience: { type: "string", default: "60000" },
      times: { type: "boolean" },
    },
  });
} catch (e) {
  console.error(`${e.message}\n${usage}`);
  process.exit(2);
}
const everywhere = ["node", ...browsers];
const places = options.values.place ? [options.values.place] : options.values.long ? everywhere : everywhere.slice(0, 2);
if (!everywhere.includes(places[0])) {
  console.error(`there is no place ${places[0]}\n${usage}`);
  process.exit(2);
}
const only = options.positionals[0] ?? "";
const patience = Number(options.values.patience);
const root = fileURLToPath(new URL("..", import.meta.url));

/** The tests that --oldest runs. */
const usesConnect = /^(call|fallback|private)\./;

/** All tests and the harness in one module. */
async function bundle(place) {
  const files = readdirSync(join(root, "test"), { recursive: true })
    .map((f) => f.replaceAll("\\", "/"))
    .filter((f) => f.endsWith(".test.ts") && !(options.values.oldest && !usesConnect.test(f)))
    .sort();
  const contents = [
    'import { run, inFile } from "./test/harness.js";',
    "export default async () => {",
    ...files.flatMap((f) => [`inFile(${JSON.stringify(f)});`, `await import(${JSON.stringify(`./test/${f}`)});`]),
    "return run(); };",
  ].join("\n");
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: root, sourcefile: "tests.js" },
    absWorkingDir: root,
    bundle: true,
    format: "esm",
    platform: place === "node" ? "node" : "browser",
    target: "es2022",
    alias: options.values.oldest ? { "@connectrpc/connect": "connect-oldest", "@connectrpc/connect-web": "connect-web-oldest" } : {},
    // React asks for it.
    define: { "process.env.NODE_ENV": '"development"' },
    sourcemap: "inline",
    write: false,
  });
  return outputFiles[0].text;
}

async function inNode(environment) {
  const dir = mkdtempSync(join(tmpdir(), "culvert-web-"));
  try {
    const module = join(dir, "tests.mjs");
    writeFileSync(module, await bundle("node"));
    const child = spawn(
      process.execPath,
      ["--enable-source-maps", join(root, "test/node.js"), pathToFileURL(module).href, JSON.stringify(environment)],
      {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
      },
    );
    return await new Promise((resolve, reject) => {
      child.on("message", resolve);
      child.on("error", reject);
      child.on("exit", (code, signal) => reject(new Error(`Node ended before the tests did: ${signal ?? code}`)));
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Serves the page of the tests, and what e2e/sequences has written. */
async function servePage() {
  const html = '<!doctype html><title>tests</title><link rel="icon" href="data:,">';
  let tests;
  const pages = {
    "/": ["text/html", () => html],
    "/tests.js": ["text/javascript", () => (tests ??= bundle("browser"))],
    "/sequences": ["application/jsonl", () => readFile(join(root, "../bin/sequences.jsonl"))],
  };
  const server = createServer(async (request, response) => {
    const [type, content] = pages[request.url] ?? [];
    try {
      const body = await content();
      response.writeHead(200, { "content-type": type }).end(body);
    } catch (e) {
      response.writeHead(404).end(String(e));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { page: `http://127.0.0.1:${server.address().port}`, stop };
}

async function inBrowser(environment) {
  const browser = await launch(environment.place);
  try {
    const tab = await browser.newPage();
    tab.on("console", (m) => {
      // Without browsers' own words about failures that tests ask for, and React's for its tools.
      if (
        !/^(info|timeStamp)$/.test(m.type()) &&
        !/^(WebSocket connection to|Failed to load resource|Connecting to|Access to fetch)/.test(m.text())
      ) {
        process.stderr.write(`${m.text()}\n`);
      }
    });
    tab.setDefaultTimeout(0); // each test has its own
    await tab.goto(environment.page);
    return await tab.evaluate(async (e) => {
      globalThis.testEnvironment = { ...e, WebSocket };
      return (await import("/tests.js")).default();
    }, environment);
  } finally {
    await browser.close();
  }
}

/** Runs the tests in a place, with servers of its own, and resolves to what they did. */
async function runIn(place) {
  const began = performance.now();
  const { servers, stop } = await startServers();
  try {
    const run = place === "node" ? inNode : inBrowser;
    const result = await run({ place, servers, page, patience, only, oldest: !!options.values.oldest, long: !!options.values.long });
    for (const failure of result.failures) {
      console.log(`--- failed in ${place}: ${failure}`);
    }
    const slowest = result.times.sort(([, a], [, b]) => b - a).slice(0, options.values.times ? 20 : 0);
    for (const [name, ms] of slowest) {
      console.log(`${String(ms).padStart(7)} ms ${name}`);
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`${place}: ${result.passed} passed, ${result.failures.length} failed in ${seconds} s`);
    return result;
  } finally {
    await stop();
  }
}

const { page, stop: stopPage } = await servePage();
const results = await Promise.allSettled(places.map(runIn));
stopPage();
for (const { reason } of results.filter((r) => r.status === "rejected")) {
  console.log(`--- ${reason.stack}`);
}
const sum = (count) => results.reduce((n, r) => n + (r.status === "fulfilled" ? count(r.value) : 0), 0);
const passed = sum((r) => r.passed);
const failed = sum((r) => r.failures.length) + results.filter((r) => r.status === "rejected").length;
if (passed + failed === 0) {
  console.log("no test has such a name");
}
console.log(`web: ${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
