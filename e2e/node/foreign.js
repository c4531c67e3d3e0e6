// Visits pages in one headless Chromium, as one user who has logged in, and tries
// from each what a page can do to reach a server: what ../foreign_test.go says on
// standard input. How each attempt ended is written to standard output, a line each.
//
//   plan     { login: "https://…", visits: [{ page, opaque, attempts }] }
//   attempt  { id, url, how, type, mode, credentials, subprotocol, headers, body }
//   outcome  { id, opened, read, told, said }: a WebSocket opened; the page read the
//            call's answer; what else it was told; culvert's words that it read

import { launch } from "./browser.js";

const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const plan = JSON.parse(Buffer.concat(chunks).toString());

const browser = await launch(["--host-resolver-rules=MAP *.test 127.0.0.1", "--ignore-certificate-errors"]);
try {
  const user = await browser.newContext();
  const login = await user.newPage();
  await login.goto(plan.login);
  await login.close();
  for (const visit of plan.visits) {
    const page = await user.newPage();
    await page.goto(visit.page);
    const place = visit.opaque ? await opaqueFrame(page) : page.locator(":root");
    for (const attempt of visit.attempts) {
      process.stdout.write(`${JSON.stringify(await place.evaluate(tryOnce, attempt))}\n`);
    }
    await page.close();
  }
} finally {
  await browser.close();
}

/** Gives the page a frame whose origin is null, and returns what is in it. */
async function opaqueFrame(page) {
  await page.evaluate(() => {
    const frame = document.createElement("iframe");
    frame.name = "opaque";
    frame.setAttribute("sandbox", "allow-scripts allow-forms");
    frame.srcdoc = "<!doctype html><title>opaque</title><body><main id=loaded></main></body>";
    document.body.append(frame);
  });
  const loaded = page.frameLocator("iframe[name=opaque]").locator("#loaded");
  const origin = await loaded.evaluate(() => self.origin);
  if (origin !== "null") {
    throw new Error(`the frame has the origin ${origin}`);
  }
  return loaded;
}

/** Runs in the page. */
async function tryOnce(_place, attempt) {
  const body = Uint8Array.from(atob(attempt.body), (c) => c.charCodeAt(0));
  const ok = (text) => /grpc-status: ?0/.test(text);
  const latin = (bytes) => Array.from(new Uint8Array(bytes), (b) => String.fromCharCode(b)).join("");
  const attach = (element) => document.body.append(element);
  const event = (target, ...names) =>
    new Promise((resolve) => {
      for (const name of names) {
        target.addEventListener(name, () => resolve({ told: name }), { once: true });
      }
    });

  const ways = {
    async fetch() {
      const response = await fetch(attempt.url, {
        method: attempt.method ?? "POST",
        mode: attempt.mode ?? "cors",
        credentials: attempt.credentials ?? "include",
        headers: { ...(attempt.type && { "content-type": attempt.type }), ...attempt.headers },
        body: attempt.method === "GET" ? undefined : body,
        keepalive: attempt.keepalive ?? false,
      });
      const text = response.type === "opaque" ? "" : latin(await response.arrayBuffer());
      const said = text.startsWith("culvert: ") ? text : "";
      return { read: ok(text), told: `${response.type} ${response.status}`, said };
    },
    xhr() {
      return new Promise((resolve) => {
        const request = new XMLHttpRequest();
        request.open("POST", attempt.url);
        request.withCredentials = true;
        request.responseType = "arraybuffer";
        request.setRequestHeader("content-type", attempt.type);
        for (const [name, value] of Object.entries(attempt.headers ?? {})) {
          request.setRequestHeader(name, value);
        }
        request.onloadend = () =>
          resolve({ read: request.status === 200 && ok(latin(request.response)), told: `status ${request.status}` });
        request.send(body);
      });
    },
    async beacon() {
      const sent = navigator.sendBeacon(attempt.url, new Blob([body], { type: attempt.type }));
      // Nobody is told what becomes of it: a request behind it, on its way.
      await fetch(attempt.url, { method: "POST", mode: "no-cors", credentials: "include", body: "behind" }).catch(() => {});
      return { told: `sent ${sent}` };
    },
    form() {
      const frame = document.createElement("iframe");
      frame.name = `answer-${attempt.id}`;
      attach(frame);
      const form = document.createElement("form");
      Object.assign(form, { action: attempt.url, method: "POST", enctype: attempt.type, target: frame.name });
      const field = document.createElement("input");
      Object.assign(field, { type: "hidden", name: latin(body), value: "1" });
      form.append(field);
      attach(form);
      const answered = event(frame, "load");
      form.submit();
      return answered;
    },
    frame() {
      const frame = document.createElement("iframe");
      frame.src = attempt.url;
      const answered = event(frame, "load");
      attach(frame);
      return answered;
    },
    image() {
      const image = new Image();
      const answered = event(image, "load", "error");
      image.src = attempt.url;
      return answered;
    },
    script() {
      const script = document.createElement("script");
      script.src = attempt.url;
      const answered = event(script, "load", "error");
      attach(script);
      return answered;
    },
    socket() {
      return new Promise((resolve) => {
        const socket = new WebSocket(attempt.url, attempt.subprotocol ? [attempt.subprotocol] : []);
        socket.binaryType = "arraybuffer";
        let opened = false;
        let text = "";
        socket.onopen = () => {
          opened = true;
          if (attempt.subprotocol !== "grpc-websockets") {
            socket.close();
            return;
          }
          const head = Object.entries(attempt.headers ?? {}).map(([name, value]) => `${name}: ${value}\r\n`);
          socket.send(new TextEncoder().encode(head.join("")));
          socket.send(Uint8Array.of(0, ...body));
          socket.send(Uint8Array.of(1));
        };
        socket.onmessage = (message) => {
          text += latin(message.data);
        };
        socket.onclose = (end) => resolve({ opened, read: ok(text), told: `close ${end.code}` });
      });
    },
  };

  const patience = new Promise((resolve) => setTimeout(resolve, 60_000, { told: "nothing within 60 s" }));
  const outcome = await Promise.race([ways[attempt.how](), patience]).catch((error) => ({ told: String(error) }));
  return { id: attempt.id, opened: false, read: false, ...outcome };
}
