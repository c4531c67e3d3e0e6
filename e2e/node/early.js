// Makes calls from a page in headless Chromium whose requests stay open, as ../early_page_test.go says on
// standard input, and tells when the page got each answer: a line each.
//
//   plan     { page: "http://…", calls }
//   call     { id, url, headers, message, every }: every is after how many ms the page sends the message again; 0: never
//   outcome  { id, told, read, status, id of the call, text }: after how many ms fetch returned, and the answer was read

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
  for (const call of plan.calls) {
    process.stdout.write(`${JSON.stringify(await page.evaluate(stream, call))}\n`);
  }
} finally {
  await browser.close();
}

/** Runs in the page. */
async function stream(call) {
  const message = Uint8Array.from(atob(call.message), (c) => c.charCodeAt(0));
  let repeat;
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(message);
      repeat = call.every > 0 && setInterval(() => controller.enqueue(message), call.every);
    },
    cancel() {
      clearInterval(repeat);
    },
  });
  const begun = performance.now();
  const outcome = { id: call.id, told: 0, read: 0, status: 0, request: "", text: "" };
  try {
    const response = await fetch(call.url, { method: "POST", headers: call.headers, body, duplex: "half" });
    outcome.told = performance.now() - begun;
    outcome.status = response.status;
    outcome.request = response.headers.get("x-request-id") ?? "";
    const answer = new Uint8Array(await response.arrayBuffer());
    outcome.read = performance.now() - begun;
    outcome.bytes = answer.length;
    outcome.text = `${response.headers.get("grpc-status") ?? ""} ${Array.from(answer.slice(-2000), (b) => String.fromCharCode(b)).join("")}`;
  } catch (error) {
    outcome.text = `after ${performance.now() - begun} ms: ${error}`;
  }
  clearInterval(repeat);
  return outcome;
}
