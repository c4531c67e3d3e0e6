// What browsers do to pages, seen from outside: a policy, mixed content, the back/forward cache, frozen, hidden and
// blocked pages, and a network that goes away. node test/pages.js [NAME] runs the scenarios whose names, such as
// "firefox: a hidden page", contain NAME.

import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { names as browsers, launch } from "./browsers.js";
import { startServers } from "./servers.js";

const only = process.argv[2] ?? "";
const patience = 180_000;

// What the pages have.
const library = `
  import { createClient } from "@connectrpc/connect";
  import { diagnose } from "./src/diagnose.js";
  import { createCulvertTransport } from "./src/index.js";
  import { Probe } from "./test/gen/probe_pb.js";
  globalThis.diagnose = diagnose;
  /** Resolves once the browser has asked for what renews tokens, and tells how often it has. */
  globalThis.loaded = async () => {
    const count = () => performance.getEntriesByType("resource").filter(({ name }) => name.includes("/session-")).length;
    while (!count()) await new Promise((resolve) => setTimeout(resolve, 20));
    return count();
  };
  /** Opens a transport, and keeps what became of its calls and connection. */
  globalThis.begin = (baseUrl, token) => {
    const sockets = [];
    class Socket extends WebSocket {
      constructor(...parts) {
        super(...parts);
        sockets.push(this);
      }
    }
    const transport = createCulvertTransport({ baseUrl, webSocket: Socket, token });
    const client = createClient(Probe, transport);
    const seen = { states: [], shown: [], frozen: 0, replies: 0, errors: [] };
    transport.subscribe(({ status, cause }) => seen.states.push(cause ? status + ": " + cause : status));
    addEventListener("pageshow", ({ persisted }) => seen.shown.push(persisted));
    globalThis.document?.addEventListener("freeze", () => seen.frozen++);
    const headers = (script, id) => ({ headers: { "probe-script": JSON.stringify({ any_payload: true, ...script }), ...(id && { "probe-id": id }) } });
    globalThis.lab = {
      seen, transport, sockets,
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

const bundled = {
  stdin: { contents: library, resolveDir: fileURLToPath(new URL("..", import.meta.url)), sourcefile: "page.js" },
  bundle: true,
  target: "es2022",
  write: false,
};
const { outputFiles } = await build({ ...bundled, format: "iife" });
// The same as modules, what is loaded later in files of their own.
const { outputFiles: modules } = await build({ ...bundled, format: "esm", splitting: true, outdir: "/", entryNames: "page" });
const html = `<!doctype html><title>page</title><link rel="icon" href="data:,"><script>${outputFiles[0].text}</script>`;
const policy = "default-src 'self' 'unsafe-inline' data:";
// A worker, also a shared one, that calls the server of its name.
const worker = `${outputFiles[0].text}
  const answer = async (port) => {
    begin(name);
    port.postMessage([await lab.error(), lab.transport.state.status]);
  };
  globalThis.postMessage ? answer(globalThis) : globalThis.onconnect = ({ ports }) => answer(ports[0]);
`;

// /whole/ has all modules, and /absent/ not what renews tokens.
const moduleWorker = `import "./page.js";
  begin(name, () => "token");
  postMessage([await lab.echo("there"), await loaded()]);
`;
const modulePage = '<!doctype html><title>modules</title><link rel="icon" href="data:,"><script type="module" src="page.js"></script>';
function serveModule(path, response) {
  const [, folder, name] = path.split("/");
  const content =
    { "": modulePage, "worker.js": moduleWorker }[name] ??
    modules.find((m) => m.path.endsWith(`/${name}`) && !(folder === "absent" && name.startsWith("session-")))?.text;
  response.writeHead(content ? 200 : 404, { "content-type": name ? "text/javascript" : "text/html" }).end(content);
}

const { servers, stop } = await startServers();
const site = createServer((request, response) => {
  const path = request.url ?? "";
  if (path.startsWith("/wait/")) {
    setTimeout(() => response.end(), Number(path.slice(6)));
    return;
  }
  if (path.startsWith("/file")) {
    response.writeHead(200, { "content-type": "application/octet-stream", "content-disposition": "attachment" }).end("bytes");
    return;
  }
  if (/^\/(whole|absent)\//.test(path)) {
    serveModule(path, response);
    return;
  }
  response.setHeader("content-type", path === "/worker" ? "text/javascript" : "text/html");
  if (path === "/policy" || path === "/worker") {
    response.setHeader("content-security-policy", policy);
  }
  response.end({ "/other": "<!doctype html><title>other</title>", "/worker": worker }[path] ?? html);
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

/** Starts a stream in a page, and returns its id after the first reply. */
async function startStream(tab, replies, bytes) {
  const id = `page-${++streams}`;
  await tab.evaluate((...stream) => lab.stream(...stream), id, replies, bytes);
  await until(tab, () => lab.seen.replies === 1);
  return id;
}

/** Follows a link to a download, with an attribute, and waits until the server has been asked for it. */
async function download(tab, attribute = "rel") {
  const path = `/file-${++streams}`;
  const asked = new Promise((resolve) => site.on("request", (request) => request.url === path && resolve()));
  await tab.evaluate(
    (href, attribute) => {
      const link = document.createElement("a");
      link.href = href;
      link.setAttribute(attribute, "");
      document.body.append(link);
      link.click();
    },
    path,
    attribute,
  );
  await asked;
}

/** Waits for the end of a stream, and checks that its 50 replies came over one connection. */
async function wholeStream(tab) {
  await until(tab, () => lab.seen.errors.length === 1);
  equal(await tab.evaluate(() => lab.seen.errors[0]), "none", "error");
  equal(await tab.evaluate(() => lab.seen.replies), 50, "replies");
  equal(await tab.evaluate(() => lab.seen.states.filter((s) => s === "connected").length), 1, "connections");
}

/** Waits until f returns true in the page, by timers: hidden pages have no animation frames. */
const until = (tab, f) =>
  tab.waitForFunction(f, { polling: 100, timeout: patience }).catch((cause) => {
    throw new Error(`${f}: ${cause.message}`, { cause });
  });

/** Opens a window of its own, so that no other page hides the page in it. */
async function openWindow(context) {
  const tab = await context.newPage({ type: "window" });
  tab.setDefaultNavigationTimeout(patience); // puppeteer's 30 s are too short for a browser that has just begun, on a busy machine
  return tab;
}

/** Opens a page with a transport. */
async function open(context, baseUrl, path = "/") {
  const tab = await openWindow(context);
  await tab.goto(origin + path);
  await tab.evaluate((url) => begin(url), baseUrl);
  return tab;
}

const scenarios = {
  "a policy without the WebSocket": async ({ context }) => {
    const tab = await open(context, servers.plain, "/policy");
    match(await tab.evaluate(() => lab.error()), /connect-src.*hasn't seen/, "error");
    equal(await tab.evaluate(() => lab.transport.state.status), "blocked", "status");
  },

  "workers whose policy forbids the WebSocket": async ({ context }) => {
    const tab = await openWindow(context);
    await tab.goto(`${origin}/other`);
    for (const kind of ["Worker", "SharedWorker"]) {
      const [error, status] = await tab.evaluate(
        (kind, name) =>
          new Promise((resolve) => {
            const worker = new globalThis[kind]("/worker", { name });
            (worker.port ?? worker).onmessage = ({ data }) => resolve(data);
          }),
        kind,
        servers.plain,
      );
      match(error, /connect-src.*hasn't seen/, `${kind}: error`);
      equal(status, "blocked", `${kind}: status`);
    }
  },

  "what renews tokens is loaded with the first stream that has one": async ({ context }) => {
    const tab = await open(context, servers.plain, "/whole/");
    equal(await tab.evaluate(() => lab.echo("here")), "here", "reply");
    equal(await tab.evaluate(() => performance.getEntriesByType("resource").some((r) => r.name.includes("/session-"))), false, "loaded");
    await tab.evaluate((url) => begin(url, () => "token"), servers.plain);
    equal(await tab.evaluate(() => lab.echo("here")), "here", "reply");
    equal(await tab.evaluate(() => loaded()), 1, "loaded");
    equal(await tab.evaluate(() => lab.echo("here")), "here", "reply");
    equal(await tab.evaluate(() => lab.transport.state.tokenCause), undefined, "cause");
    const inWorker = await tab.evaluate(
      (name) =>
        new Promise((resolve, reject) => {
          const worker = new Worker("worker.js", { name, type: "module" });
          worker.onmessage = ({ data }) => resolve(data);
          worker.onerror = (e) => reject(new Error(e.message));
        }),
      servers.plain,
    );
    equal(`${inWorker}`, "there,1", "in a worker");
  },

  "what renews tokens can't be loaded": async ({ context }) => {
    const tab = await open(context, servers.plain, "/absent/");
    await tab.evaluate((url) => begin(url, () => "token"), servers.plain);
    for (let i = 0; i < 3; i++) {
      equal(await tab.evaluate(() => lab.echo("here")), "here", "reply");
      await until(tab, () => lab.transport.state.tokenCause);
      match(await tab.evaluate(() => lab.transport.state.tokenCause), /^token: TypeError: .*session-/, "cause");
    }
    equal(await tab.evaluate(() => lab.transport.state.status), "connected", "status");
  },

  "mixed content": async ({ context }) => {
    const tab = await openWindow(context);
    // A page over HTTPS, without a certificate. A browser makes no exception for the server's name, as it does for addresses of this machine.
    await tab.setRequestInterception(true);
    tab.on("request", (request) => request.respond({ body: html, contentType: "text/html" }));
    await tab.goto("https://app.example.com/");
    await tab.evaluate(() => begin("http://grpc.example.com"));
    match(await tab.evaluate(() => lab.error()), /mixed content.*hasn't seen/, "error");
    equal(await tab.evaluate(() => lab.transport.state.status), "blocked", "status");
  },

  "diagnose() in a page whose policy forbids calls": async ({ context }) => {
    const tab = await openWindow(context);
    await tab.goto(`${origin}/policy`);
    const report = await tab.evaluate((url) => diagnose(url), servers.passes);
    equal(`${report.bidirectional}: ${report.verdicts.map((v) => v.id)}`, "no: way-none,csp-blocks", "verdicts");
    equal(`${report.findings.map((f) => f.probe)}`, "grpc,page", "probes");
    const evidence = report.findings.at(-1).evidence;
    for (const scheme of ["http", "ws"]) {
      match(evidence, new RegExp(`forbids.* ${servers.passes.replace("http", scheme)}.*default-src 'self'`), "evidence");
    }
  },

  "diagnose() of mixed content": async ({ context }) => {
    const tab = await openWindow(context);
    await tab.setRequestInterception(true);
    tab.on("request", (request) => request.respond({ body: html, contentType: "text/html" }));
    await tab.goto("https://app.example.com/");
    const report = await tab.evaluate(() => diagnose("http://grpc.example.com"));
    equal(`${report.bidirectional}: ${report.verdicts.map((v) => v.id)}`, "no: way-none,mixed-content", "verdicts");
  },

  // In a browser of its own: Firefox gives keys only to the window in front.
  "the doctor's page": async ({ place }) => {
    const browser = await launch(place);
    try {
      const tab = await browser.newPage();
      tab.setDefaultNavigationTimeout(patience);
      const broken = [];
      tab.on("console", (m) => /Content.Security.Policy/i.test(m.text()) && broken.push(m.text()));
      tab.on("pageerror", (e) => /establish a connection/.test(e) || broken.push(String(e))); // Firefox: the WebSocket
      const requested = [];
      tab.on("request", (r) => requested.push(new URL(r.url()).origin));
      await tab.goto(`${servers.strips}/_culvert/doctor`);
      const shown = () => until(tab, () => !document.getElementById("result").hidden);
      const text = (id) => tab.evaluate((id) => document.getElementById(id).innerText, id);
      await shown();
      match(await text("possible"), /Bidirectional streams: no/, "possible");
      match(await text("verdicts"), /^Only unary calls and server streams pass[\s\S]*The WebSocket doesn't open/, "verdicts");
      match(await text("settings"), /For pages\s+@connectrpc\/connect-web/, "settings");
      match(await text("asks"), /Please allow WebSocket upgrades to 127\.0\.0\.1\./, "asks");
      match(await text("findings"), /grpc-web-stream\s+works/, "findings");
      // With the keyboard alone. Without its permission, the report is shown in place of the clipboard's copy.
      await tab.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
      await tab.focus("#copy");
      await tab.keyboard.press("Enter");
      await until(tab, () => document.querySelector("#copied textarea"));
      const report = JSON.parse(await tab.evaluate(() => document.querySelector("#copied textarea").value));
      equal(`${report.url} ${report.verdicts[1].id}`, `${servers.strips} websocket-fails`, "the report");
      // The second run hides the result for little more than a second, which a busy machine wouldn't see from outside.
      await tab.evaluate(() => {
        const result = document.getElementById("result");
        globalThis.hidden = [];
        new MutationObserver(() => hidden.push(result.hidden)).observe(result, { attributeFilter: ["hidden"] });
      });
      await tab.focus("#start");
      await tab.keyboard.press("Enter");
      await until(tab, () => hidden.length === 2);
      equal(`${await tab.evaluate(() => hidden)}`, "true,false", "the result is hidden");
      for (const width of [320, 390, 1200]) {
        await tab.setViewport({ width, height: 800 });
        equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true, `fits ${width} px`);
      }
      equal(`${broken}`, "", "errors");
      equal(`${[...new Set(requested)].filter((o) => ![servers.strips, "null"].includes(o))}`, "", "requests to others");
    } finally {
      await browser.close();
    }
  },

  "the back/forward cache": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    await startStream(tab, 5);
    await tab.goto(`${origin}/other`);
    await tab.evaluate(() => history.back());
    await until(tab, () => globalThis.lab?.seen.shown.at(-1) === true);
    await until(tab, () => lab.seen.errors.length === 1 && lab.transport.state.status === "connected");
    match(await tab.evaluate(() => lab.seen.errors[0]), /may have seen/, "the stream's error");
    equal(await tab.evaluate(() => lab.echo("back")), "back", "echo");
  },

  // Chromium cuts the WebSockets of a page that it freezes.
  "a frozen page": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    await startStream(tab, 5);
    const session = await tab.createCDPSession();
    await session.send("Page.setWebLifecycleState", { state: "frozen" });
    await session.send("Page.setWebLifecycleState", { state: "active" });
    await until(tab, () => lab.seen.errors.length === 1);
    equal(await tab.evaluate(() => lab.seen.frozen), 1, "freeze events");
    match(await tab.evaluate(() => lab.seen.errors[0]), /may have seen/, "the stream's error");
    equal(await tab.evaluate(() => lab.echo("thawed")), "thawed", "echo");
  },

  "a link to a download": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    const id = await startStream(tab, 50, 20_000);
    await download(tab);
    await control("/release", { id });
    await wholeStream(tab);
  },

  "a page with an open dialog": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    const id = await startStream(tab, 50, 20_000);
    const shown = new Promise((resolve) => tab.once("dialog", resolve));
    await tab.evaluate(() => {
      setTimeout(() => alert("stop"));
    });
    const dialog = await shown;
    await control("/release", { id });
    await control("/record", { id, wait: "now" });
    await dialog.accept();
    await wholeStream(tab);
  },

  "a hidden page": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    await tab.evaluate(() => {
      window.open("/other");
    });
    await until(tab, () => document.visibilityState === "hidden");
    const pause = await tab.evaluate(async () => {
      const began = performance.now();
      for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 4));
      return performance.now() - began;
    });
    equal(pause > 1000, true, `timers are slow (${pause} ms)`);
    // 5 MB each way, of which 64 KiB at most wait in the WebSocket.
    equal(await tab.evaluate(() => lab.converse(1000)), 1000, "messages");
  },

  "a page that is blocked for a minute": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    const id = await startStream(tab, 50, 20_000);
    await tab.evaluate(() => {
      const request = new XMLHttpRequest();
      request.open("GET", "/wait/60000", false);
      request.send();
    });
    await control("/release", { id });
    await wholeStream(tab);
  },

  // The browser stops for longer than culvert waits for a client that is silent.
  "a laptop that sleeps": async ({ place }) => {
    const browser = await launch(place);
    const wake = () => process.kill(-browser.process().pid, "SIGCONT");
    try {
      const tab = await open(browser, servers.culvert);
      const id = await startStream(tab, 5);
      process.kill(-browser.process().pid, "SIGSTOP");
      await control("/record", { id, wait: "cancelled" });
      wake();
      await until(tab, () => lab.seen.errors.length === 1);
      match(await tab.evaluate(() => lab.seen.errors[0]), /may have seen/, "the stream's error");
      equal(await tab.evaluate(() => lab.echo("awake")), "awake", "echo");
    } finally {
      wake();
      await browser.close();
    }
  },

  "a server that refuses WebSockets for a while": async ({ place, context }) => {
    const path = `/refused-${place}`;
    const behave = (rules) => control("/tunnels/rules", { path, rules: JSON.stringify(rules) });
    await behave({ status: 503 });
    const tab = await open(context, servers.plain + path);
    await tab.evaluate(() => {
      void (async () => {
        let error;
        do {
          error = await lab.error();
          lab.seen.errors.push(error);
        } while (error !== "none");
      })();
    });
    await until(tab, () => lab.seen.errors.length === 2);
    if (place === "firefox") {
      // Firefox itself waits before it connects, in the end longer than the package takes for an attempt.
      await until(tab, () => lab.seen.errors.some((e) => e.includes("SETTINGS")));
    }
    await behave({});
    await until(tab, () => lab.seen.errors.at(-1) === "none");
    for (const error of await tab.evaluate(() => lab.seen.errors.slice(0, -1))) {
      match(error, /(1006|no HTTP.2 SETTINGS in 10 s); the backend hasn't seen/, "error");
    }
  },

  "a network that goes away and comes back": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    equal(await tab.evaluate(() => lab.echo("before")), "before", "echo");
    await tab.evaluate(() => lab.transport.close());
    await tab.setOfflineMode(true);
    match(await tab.evaluate(() => lab.error()), /hasn't seen/, "error");
    equal(await tab.evaluate(() => lab.transport.state.status), "offline", "status");
    await tab.setOfflineMode(false);
    equal(await tab.evaluate(() => lab.echo("after")), "after", "echo");
    equal(await tab.evaluate(() => lab.transport.state.status), "connected", "status");
  },
};

/** The scenarios that end differently in Firefox, or that it can't run: undefined. */
const inFirefox = {
  // WebDriver BiDi has no command like Page.setWebLifecycleState: Firefox freezes pages in its back/forward cache only.
  // "a page with an open dialog" comes nearest.
  "a frozen page": undefined,

  // The navigation closes the page's WebSockets with 1001, although the page stays. A link with the attribute download
  // is no navigation.
  "a link to a download": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    const id = await startStream(tab, 50, 20_000);
    await download(tab, "download");
    await control("/release", { id });
    await wholeStream(tab);
    await tab.evaluate((url) => begin(url), servers.culvert);
    await startStream(tab, 5);
    await download(tab);
    await until(tab, () => lab.seen.errors.length === 1);
    match(await tab.evaluate(() => lab.seen.errors[0]), /1001.*may have seen/, "the stream's error");
    equal(await tab.evaluate(() => lab.echo("still here")), "still here", "echo");
  },

  // A page with an open WebSocket isn't kept, but loaded anew. One whose WebSocket has been closed comes back.
  "the back/forward cache": async ({ context }) => {
    const tab = await open(context, servers.culvert);
    const id = await startStream(tab, 5);
    await tab.goto(`${origin}/other`);
    await control("/record", { id, wait: "cancelled" });
    await tab.evaluate(() => history.back());
    await until(tab, () => globalThis.begin && !globalThis.lab);
    await tab.evaluate((url) => begin(url), servers.culvert);
    equal(await tab.evaluate(() => lab.echo("anew")), "anew", "echo");
    await tab.evaluate(() => lab.transport.close());
    await until(tab, () => lab.sockets.every((s) => s.readyState === WebSocket.CLOSED));
    await tab.goto(`${origin}/other`);
    await tab.evaluate(() => history.back());
    await until(tab, () => globalThis.lab?.seen.shown.at(-1) === true);
    equal(await tab.evaluate(() => lab.echo("back")), "back", "echo");
  },
};

/** Runs a scenario in a profile of its own. */
async function run(place, browser, scenario) {
  const context = await browser.createBrowserContext({ downloadBehavior: { policy: "deny" } });
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`hasn't ended after ${2 * patience} ms`)), 2 * patience);
  });
  try {
    await Promise.race([scenario({ place, context }), late]);
  } finally {
    clearTimeout(timer);
    await context.close();
  }
}

const began = performance.now();
let passed = 0;
const failures = [];
try {
  await Promise.all(
    browsers.map(async (place) => {
      const chosen = Object.entries({ ...scenarios, ...(place === "firefox" && inFirefox) }).filter(
        ([name, scenario]) => scenario && `${place}: ${name}`.includes(only),
      );
      if (chosen.length === 0) {
        return;
      }
      const browser = await launch(place);
      try {
        await Promise.all(
          chosen.map(([name, scenario]) =>
            run(place, browser, scenario).then(
              () => passed++,
              (e) => failures.push(`${place}: ${name}: ${e.message}`),
            ),
          ),
        );
      } finally {
        await browser.close();
      }
    }),
  );
} finally {
  site.closeAllConnections();
  site.close();
  await stop();
}
for (const failure of failures) {
  console.log(`--- failed: ${failure}`);
}
console.log(`pages: ${passed} passed, ${failures.length} failed in ${((performance.now() - began) / 1000).toFixed(1)} s`);
process.exitCode = failures.length > 0 || passed === 0 ? 1 : 0;
