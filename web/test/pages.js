// What browsers do to pages, seen from outside: a policy, mixed content, the back/forward cache, frozen, hidden and
// blocked pages, and a network that goes away. node test/pages.js [NAME] runs the scenarios whose names contain NAME.

import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { launch } from "./chromium.js";
import { startServers } from "./servers.js";

const only = process.argv[2] ?? "";
const patience = 180_000;

// What the pages have.
const library = `
  import { createClient } from "@connectrpc/connect";
  import { createCulvertTransport } from "./src/index.js";
  import { Probe } from "./test/gen/probe_pb.js";
  /** Opens a transport, and keeps what became of its calls and connection. */
  globalThis.begin = (baseUrl) => {
    const transport = createCulvertTransport({ baseUrl });
    const client = createClient(Probe, transport);
    const seen = { states: [], shown: [], replies: 0, errors: [] };
    transport.subscribe(({ status, cause }) => seen.states.push(cause ? status + ": " + cause : status));
    addEventListener("pageshow", ({ persisted }) => seen.shown.push(persisted));
    const headers = (script, id) => ({ headers: { "probe-script": JSON.stringify({ any_payload: true, ...script }), ...(id && { "probe-id": id }) } });
    globalThis.lab = {
      seen, transport,
      echo: async (text) => (await client.unary({ text }, headers({ echo: true }))).text,
      error: () => client.unary({}, headers({})).then(() => "none", (e) => e.rawMessage),
      /** Starts a stream of replies, of which the backend holds all but the first until it is told. */
      stream: (id, replies, reply_bytes = 10) => {
        (async () => {
          try {
            for await (const _ of client.serverStream({}, headers({ replies, reply_bytes, hold_after: 1 }, id))) seen.replies++;
            seen.errors.push("none");
          } catch (e) {
            seen.errors.push(e.rawMessage);
          }
        })();
      },
      /** Sends and gets back so many messages. */
      converse: async (count) => {
        let i = 0;
        async function* requests() { for (let n = 0; n < count; n++) yield { text: String(n), payload: new Uint8Array(5000) }; }
        for await (const { text } of client.bidi(requests(), headers({ echo: true }))) if (text !== String(i++)) throw new Error(text);
        return i;
      },
    };
  };
`;

const { outputFiles } = await build({
  stdin: { contents: library, resolveDir: fileURLToPath(new URL("..", import.meta.url)), sourcefile: "page.js" },
  bundle: true,
  format: "iife",
  target: "es2022",
  write: false,
});
const html = `<!doctype html><title>page</title><link rel="icon" href="data:,"><script>${outputFiles[0].text}</script>`;
const policy = "default-src 'self' 'unsafe-inline' data:";

const { servers, stop } = await startServers();
const site = createServer((request, response) => {
  const path = request.url ?? "";
  if (path.startsWith("/wait/")) {
    setTimeout(() => response.end(), Number(path.slice(6)));
    return;
  }
  response.setHeader("content-type", "text/html");
  if (path === "/policy") {
    response.setHeader("content-security-policy", policy);
  }
  response.end(path === "/other" ? "<!doctype html><title>other</title>" : html);
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${site.address().port}`;

/** Asks the plain server; see control in harness.ts. */
async function control(path, parameters) {
  const answer = await fetch(`${servers.plain}/-${path}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) {
    throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  }
  return answer.json();
}

function equal(got, want, what) {
  if (got !== want) {
    throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
}

function match(got, want, what) {
  if (!want.test(got)) {
    throw new Error(`${what}: ${JSON.stringify(got)} doesn't match ${want}`);
  }
}

let streams = 0;

/** Starts a stream in a page that has one reply, and returns its id. */
async function startStream(tab, replies, bytes) {
  const id = `page-${++streams}`;
  await tab.evaluate(([id, replies, bytes]) => lab.stream(id, replies, bytes), [id, replies, bytes]);
  await tab.waitForFunction(() => lab.seen.replies === 1);
  return id;
}

const scenarios = {
  "a policy without the WebSocket": async (context) => {
    const tab = await context.newPage();
    await tab.goto(`${origin}/policy`);
    await tab.evaluate((url) => begin(url), servers.plain);
    match(await tab.evaluate(() => lab.error()), /connect-src.*hasn't seen/, "error");
    equal(await tab.evaluate(() => lab.transport.state.status), "blocked", "status");
  },

  "mixed content": async (context) => {
    const tab = await context.newPage();
    // A page over HTTPS, without a certificate. A browser makes no exception for the server's name, as it does for addresses of this machine.
    await tab.route("https://app.example.com/", (route) => route.fulfill({ body: html, contentType: "text/html" }));
    await tab.goto("https://app.example.com/");
    await tab.evaluate(() => begin("http://grpc.example.com"));
    match(await tab.evaluate(() => lab.error()), /mixed content.*hasn't seen/, "error");
    equal(await tab.evaluate(() => lab.transport.state.status), "blocked", "status");
  },

  "the back/forward cache": async (context) => {
    const tab = await context.newPage();
    await tab.goto(origin);
    await tab.evaluate((url) => begin(url), servers.culvert);
    await startStream(tab, 5);
    await tab.goto(`${origin}/other`);
    await tab.goBack({ waitUntil: "commit" });
    await tab.waitForFunction(() => globalThis.lab?.seen.shown.at(-1) === true);
    await tab.waitForFunction(() => lab.seen.errors.length === 1 && lab.transport.state.status === "connected");
    match(await tab.evaluate(() => lab.seen.errors[0]), /may have seen/, "the stream's error");
    equal(await tab.evaluate(() => lab.echo("back")), "back", "echo");
  },

  "a frozen page": async (context) => {
    const tab = await context.newPage();
    await tab.goto(origin);
    await tab.evaluate((url) => begin(url), servers.culvert);
    const id = await startStream(tab, 50, 20_000);
    const session = await context.newCDPSession(tab);
    await session.send("Page.setWebLifecycleState", { state: "frozen" });
    await control("/release", { id });
    await control("/record", { id, wait: "now" });
    await session.send("Page.setWebLifecycleState", { state: "active" });
    await tab.waitForFunction(() => lab.seen.errors.length === 1);
    equal(await tab.evaluate(() => lab.seen.errors[0]), "none", "error");
    equal(await tab.evaluate(() => lab.seen.replies), 50, "replies");
  },

  "a hidden page": async (context) => {
    const tab = await context.newPage();
    await tab.goto(origin);
    await tab.evaluate((url) => begin(url), servers.culvert);
    const front = await context.newPage();
    await front.goto(`${origin}/other`);
    await front.bringToFront();
    // 5 MB each way, of which 64 KiB at most wait in the WebSocket.
    equal(await tab.evaluate(() => lab.converse(1000)), 1000, "messages");
    await front.close();
  },

  "a page that is blocked for a minute": async (context) => {
    const tab = await context.newPage();
    await tab.goto(origin);
    await tab.evaluate((url) => begin(url), servers.culvert);
    const id = await startStream(tab, 50, 20_000);
    await tab.evaluate(() => {
      const request = new XMLHttpRequest();
      request.open("GET", "/wait/60000", false);
      request.send();
    });
    await control("/release", { id });
    await tab.waitForFunction(() => lab.seen.errors.length === 1);
    equal(await tab.evaluate(() => lab.seen.errors[0]), "none", "error");
    equal(await tab.evaluate(() => lab.seen.replies), 50, "replies");
    equal(await tab.evaluate(() => lab.seen.states.filter((s) => s === "connected").length), 1, "connections");
  },

  "a network that goes away and comes back": async (context) => {
    const tab = await context.newPage();
    await tab.goto(origin);
    await tab.evaluate((url) => begin(url), servers.culvert);
    equal(await tab.evaluate(() => lab.echo("before")), "before", "echo");
    await tab.evaluate(() => lab.transport.close());
    await context.setOffline(true);
    match(await tab.evaluate(() => lab.error()), /hasn't seen/, "error");
    equal(await tab.evaluate(() => lab.transport.state.status), "offline", "status");
    await context.setOffline(false);
    equal(await tab.evaluate(() => lab.echo("after")), "after", "echo");
    equal(await tab.evaluate(() => lab.transport.state.status), "connected", "status");
  },
};

const began = performance.now();
let passed = 0;
const failures = [];
// DevTools' clients switch the back/forward cache off.
const browser = await launch([], ["--disable-back-forward-cache"]);
try {
  const names = Object.keys(scenarios).filter((name) => name.includes(only));
  await Promise.all(
    names.map(async (name) => {
      const context = await browser.newContext();
      context.setDefaultTimeout(patience);
      let timer;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`hasn't ended after ${patience} ms`)), patience);
      });
      try {
        await Promise.race([scenarios[name](context), late]);
        passed++;
      } catch (e) {
        failures.push(`${name}: ${e.message}`);
      } finally {
        clearTimeout(timer);
        await context.close();
      }
    }),
  );
} finally {
  await browser.close();
  site.closeAllConnections();
  site.close();
  await stop();
}
for (const failure of failures) {
  console.log(`--- failed: ${failure}`);
}
console.log(`pages: ${passed} passed, ${failures.length} failed in ${((performance.now() - began) / 1000).toFixed(1)} s`);
process.exitCode = failures.length > 0 || passed === 0 ? 1 : 0;
