// Runs jobs in headless Chromium, in pages that are paused in the middle of their
// calls: by a debugger, or by a synchronous request, which blocks the page's only
// thread as a busy loop does, and takes no processor time. The jobs of a group
// share a page. { id, paused: true } tells for each job that its page stands still.

import { createInterface } from "node:readline";
import { launch } from "./browser.js";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const jobs = JSON.parse((await lines.next()).value);
const browser = await launch();
try {
  // All pages load before any call begins, one by one: loading is what takes time.
  const groups = [...new Set(jobs.map((j) => j.page_pause.group))].map((g) => jobs.filter((j) => j.page_pause.group === g));
  const pages = [];
  for (const [job] of groups) {
    pages.push(await open(job.page));
  }
  // Start one page's calls, and wait for their replies, before the next page's.
  const ends = [];
  for (const [i, group] of groups.entries()) {
    const calls = group.map((job) => reported(runCall(pages[i], job)));
    await pages[i].evaluate((n) => window.answered(n), group.length);
    ends.push(reported(pauseGroup(pages[i], group, calls)));
  }
  await Promise.all(ends);
} finally {
  await browser.close();
}

/** Returns the promise, whose failure may be awaited late. */
function reported(promise) {
  promise.catch(() => {});
  return promise;
}

async function open(url) {
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
  page.on("pageerror", (e) => console.error(e.stack));
  await page.goto(url);
  return page;
}

async function runCall(page, job) {
  process.stdout.write(`${JSON.stringify(await page.evaluate((j) => window.runJob(j), job))}\n`);
}

async function pauseGroup(page, jobs, calls) {
  const { page_pause: pause } = jobs[0];
  await sleep(pause.lead_ms);
  const paused = () => {
    for (const { id } of jobs) {
      process.stdout.write(`${JSON.stringify({ id, paused: true })}\n`);
    }
  };
  await (pause.debugger ? pauseByDebugger : pauseByRequest)(page, pause.pause_ms, paused);
  await Promise.all(calls);
  await page.context().close();
}

async function pauseByRequest(page, ms, paused) {
  const sent = page.waitForRequest((r) => r.url().includes("/wait?")).then(paused);
  await page.evaluate((ms) => window.pause(ms), ms);
  await sent;
}

async function pauseByDebugger(page, ms, paused) {
  const session = await page.context().newCDPSession(page);
  await session.send("Debugger.enable");
  session.once("Debugger.paused", async () => {
    paused();
    await sleep(ms);
    await session.send("Debugger.resume");
  });
  await page.evaluate(() => window.pause());
  await session.detach();
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
