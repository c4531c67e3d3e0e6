// Calls routes of messages from a page in headless Chromium, as ../json_messages_test.go says on standard
// input, with what browsers have: WebSocket, fetch and EventSource. Prints what the page got as JSON.
//
//   plan     { page: "http://…", base: "https://…", script, resume }

import { launch } from "./browser.js";

const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const plan = JSON.parse(Buffer.concat(chunks).toString());

const browser = await launch();
try {
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  await page.goto(plan.page);
  process.stdout.write(`${JSON.stringify(await page.evaluate(calls, plan))}\n`);
} finally {
  await browser.close();
}

/** Runs in the page. */
async function calls({ base, script, resume }) {
  const parameter = (s) => `probe-script=${encodeURIComponent(JSON.stringify(s))}`;
  const socket = await new Promise((resolve) => {
    const got = [];
    const ws = new WebSocket(`${base.replace("http", "ws")}/ws?${parameter({ ...script, echo: true })}`);
    ws.onopen = () => ws.send(JSON.stringify({ text: "one", sequence: "1" }));
    ws.onmessage = ({ data }) => {
      got.push(JSON.parse(data));
      if (got.length < 3) ws.send(JSON.stringify({ text: "next", sequence: `${got.length + 1}` }));
      else if (got.length === 3) ws.send("done"); // what comes then is the method's own
    };
    ws.onclose = ({ code, reason }) => resolve({ got, code, reason });
  });
  const post = async (path, message, s) => {
    const answer = await fetch(`${base}${path}?${parameter(s)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(message),
    });
    return { status: answer.status, text: await answer.text() };
  };
  const events = await new Promise((resolve) => {
    const got = [];
    let connections = 0;
    const source = new EventSource(`${base}/events?${parameter(resume)}`);
    source.onopen = () => connections++;
    source.onmessage = ({ data, lastEventId }) => got.push([lastEventId, JSON.parse(data)]);
    source.addEventListener("status", ({ data }) => {
      if (connections === 2) {
        source.close();
        resolve({ got, last: JSON.parse(data) });
      } // else the source connects again by itself
    });
    source.onerror = () => source.readyState === EventSource.CLOSED && resolve({ got, last: "the source gave up" });
  });
  return {
    socket,
    unary: await post("/unary", { text: "hello" }, { echo: true }),
    mistake: await post("/unary", { text: 7 }, {}),
    lines: await post("/lines", {}, script),
    events,
  };
}
