// What only a browser does to WebSockets.

import { ConnectError } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { all, probed, scripted, texts } from "./client.js";
import { box, deepEqual, env, equal, match, rejects, test } from "./harness.js";

const page = { page: true } as const;

/** Runs body with the window of a frame whose head has this. */
async function framed<T>(head: string, body: (window: typeof globalThis) => Promise<T>): Promise<T> {
  const frame = document.createElement("iframe");
  frame.srcdoc = `<!doctype html><head>${head}</head>`;
  const loaded = new Promise((resolve) => {
    frame.onload = resolve;
  });
  document.body.append(frame);
  await loaded;
  try {
    return await body(frame.contentWindow as unknown as typeof globalThis);
  } finally {
    frame.remove();
  }
}

const policy = `<meta http-equiv="Content-Security-Policy" content="connect-src 'self'">`;

test(
  "an error names the policy that forbids the WebSocket, at once",
  () =>
    framed(policy, (window) =>
      probed({ baseUrl: env.servers.plain, webSocket: window.WebSocket }, async ({ client, transport }) => {
        for (let i = 0; i < 2; i++) {
          const e = await rejects(all(client.bidi(texts("a"), scripted({}).options)), ConnectError);
          match(e.rawMessage, /connect-src/);
          equal(e.metadata.get("culvert-sent"), "no");
          equal(transport.state.status, "blocked");
          match(transport.state.cause ?? "", /connect-src/);
        }
      }),
    ),
  page,
);

test(
  "a page whose policy forbids the WebSocket takes the fallback",
  () =>
    framed(policy, (window) => {
      const fallback = createGrpcWebTransport({ baseUrl: env.servers.culvert });
      return probed({ baseUrl: env.servers.plain, webSocket: window.WebSocket, fallback }, async ({ client, transport }) => {
        equal((await client.unary({ text: "a" }, scripted({ echo: true }).options)).text, "a");
        equal(transport.state.status, "blocked");
      });
    }),
  page,
);

test(
  "a page that comes back from the back/forward cache reconnects at once",
  async () => {
    const { baseUrl, wait } = await box();
    await probed({ baseUrl }, async ({ client, transport }) => {
      const call = scripted({ hang: true });
      const ended = rejects(client.unary({}, call.options), ConnectError);
      await call.began();
      dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }));
      match((await ended).rawMessage, /back\/forward cache; the backend may have seen/);
      await client.unary({}, scripted({}).options);
      equal(transport.state.status, "connected");
      deepEqual(await wait(1), { live: 1, opened: 2 });
    });
  },
  page,
);

test(
  "a network that comes back ends the pause before the next attempt",
  async () => {
    const { baseUrl, close, wait } = await box();
    await probed({ baseUrl }, async ({ client }) => {
      await client.unary({}, scripted({}).options);
      await close(1013, "");
      await wait(0);
      const next = client.unary({ text: "a" }, scripted({ echo: true }).options);
      dispatchEvent(new Event("online"));
      equal((await next).text, "a");
    });
  },
  page,
);

test(
  "when the network comes back, running calls go on and others take a new connection",
  async () => {
    const { baseUrl, wait } = await box();
    await probed({ baseUrl }, async ({ client, transport }) => {
      const call = scripted({ replies: 3, hold_after: 1 });
      const stream = client.serverStream({}, call.options)[Symbol.asyncIterator]();
      await stream.next();
      dispatchEvent(new Event("online"));
      deepEqual(await wait(2), { live: 2, opened: 2 });
      await client.unary({}, scripted({}).options);
      await call.release();
      await stream.next();
      await stream.next();
      equal((await stream.next()).done, true);
      await wait(1);
      equal(transport.state.status, "connected");
    });
  },
  page,
);

test(
  "when the network comes back, an attempt that hangs is made anew",
  async () => {
    const { baseUrl, behave, wait } = await box({ hold: true });
    await probed({ baseUrl }, async ({ client }) => {
      const call = client.unary({ text: "a" }, scripted({ echo: true }).options);
      await wait(1);
      await behave({});
      dispatchEvent(new Event("online"));
      equal((await call).text, "a");
      deepEqual(await wait(1), { live: 1, opened: 2 });
    });
  },
  page,
);

test(
  "base URLs are relative to the page",
  () =>
    probed({ baseUrl: "/api" }, async ({ client, transport }) => {
      const e = await rejects(client.unary({}, scripted({}).options), ConnectError); // the page's server takes no WebSockets
      match(e.rawMessage, /1006/);
      equal(transport.state.waiting, 0);
    }),
  { ...page, waits: true },
);

test(
  "a base URL may begin with ws, as a scheme and as a path",
  async () => {
    const opened = (baseUrl: string) =>
      new Promise<string>((resolve) => {
        class Refusing {
          constructor(url: string) {
            resolve(url);
            throw new DOMException("refused", "SecurityError");
          }
        }
        probed({ baseUrl, webSocket: Refusing as unknown as typeof WebSocket }, ({ client }) =>
          client.unary({}, scripted({}).options),
        ).catch(() => {});
      });
    const here = new URL(".", document.baseURI).href.replace(/^http/, "ws");
    equal(await opened("ws/"), `${here}ws/`);
    equal(await opened("ws-api"), `${here}ws-api/`);
    equal(await opened("wss://grpc.example/a"), "wss://grpc.example/a/");
  },
  page,
);

/** Runs the tests of calls in a worker. */
const worker = (own: string, start: (url: string) => MessagePort | Worker) => async () => {
  const environment = JSON.stringify({ ...env, place: own, only: "call.test.ts" });
  const source = `
    const told = (async () => {
      globalThis.testEnvironment = { ...${environment}, WebSocket };
      return (await import(${JSON.stringify(new URL("/tests.js", location.href))})).default();
    })();
    const tell = async (port) => port.postMessage(await told.catch((e) => ({ passed: 0, failures: [String(e)] })));
    globalThis.postMessage ? tell(globalThis) : onconnect = (e) => tell(e.ports[0]);`;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const port = start(url);
  const result = await new Promise<{ passed: number; failures: string[] }>((resolve) => {
    port.onmessage = (e) => resolve(e.data);
  });
  deepEqual(result.failures, []);
  equal(result.passed > 40, true);
};

test(
  "a worker makes calls as a page does",
  worker("worker", (url) => new Worker(url, { type: "module" })),
  { ...page, patience: 120_000, waits: true },
);

test(
  "a shared worker makes calls as a page does",
  worker("shared-worker", (url) => new SharedWorker(url, { type: "module" }).port),
  { ...page, patience: 120_000, waits: true },
);
