// Looks at the page of a running demo in headless Chromium: light and dark, on
// screens of five widths, with the keyboard alone.
//
//	node demo.mjs http://127.0.0.1:8080/ [DIRECTORY]
//
// It prints a JSON array with an object for each look: its name and its findings.
// With a directory, it also writes a picture of the whole page for each look.
import { join } from "node:path";
import { launch } from "../node/browser.js";
import { breaches, findCutText } from "../node/look.js";

const [url, directory] = process.argv.slice(2);
const command = "culvert serve --backend localhost:9000 --allow-origin http://localhost:5173";
const question = "What time is it, and how big is my window?";

/** Looks at the page once and returns what is wrong with it. */
async function look(browser, colorScheme, width) {
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme, permissions: ["clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  page.setDefaultTimeout(120_000);
  const findings = [];
  page.on("pageerror", (error) => findings.push(`error: ${error}`));
  let broken = false; // whether requests are to fail
  page.on("console", (message) => message.type() === "error" && !broken && findings.push(`console: ${message.text()}`));
  const part = (testId, attributes = "") => page.locator(`[data-testid="${testId}"]${attributes}`).first();
  /** Waits until the lanes have their verdicts and the conversation's answer is whole. */
  const settle = async (direct, culvert) => {
    await part("lane-direct", `[data-state="${direct}"]`).waitFor();
    await part("lane-culvert", `[data-state="${culvert}"]`).waitFor();
    await part("chat-stop", ":disabled").waitFor();
  };

  /** Checks the page in one of its states. */
  async function check(state, rules = true) {
    // A preview is the beginning of what its line opens to; bytes scroll, 16 a line.
    const cut = await page.evaluate(findCutText, ".sr-only, summary > .preview, .hex");
    findings.push(...cut.map((text) => `${state}: ${text}`));
    if (!rules) {
      return; // axe-core takes a second, and has seen all parts of this state
    }
    findings.push(...(await breaches(page)).map((text) => `${state}: ${text}`));
  }

  /** Presses Tab until the element has the focus, which has to be visible. */
  async function reach(element, name) {
    const focused = () => element.evaluate((e) => e === document.activeElement);
    for (let presses = 0; !(await focused()); presses++) {
      if (presses > 200) {
        throw new Error(`the keyboard doesn't reach ${name}`);
      }
      await page.keyboard.press("Tab");
    }
    const outline = await element.evaluate((e) => [getComputedStyle(e).outlineStyle, Number.parseFloat(getComputedStyle(e).outlineWidth)]);
    if (outline[0] === "none" || outline[1] < 2) {
      findings.push(`${name} has no visible focus: ${outline}`);
    }
  }

  const checks = {
    "the first calls": async () => {
      await page.goto(url);
      await settle("bad", "ok");
      await part("wire-call", '[data-method$="/Converse"][data-via="proxy"]').waitFor();
      const first = await part("chat-log").evaluate((chat) => {
        const [said, box] = [chat.querySelector('[data-role="user"]'), chat.getBoundingClientRect()];
        const { top, bottom } = said.getBoundingClientRect();
        return top >= box.top && bottom <= box.bottom ? said.textContent : "";
      });
      if (first !== question) {
        findings.push(`the conversation shows ${first || "no question"}, not its first question`);
      }
      await check("with the proxy");
    },
    "the switch": async () => {
      await page.evaluate(() => document.activeElement?.blur());
      await reach(part("path-switch"), "the switch");
      await page.keyboard.press("Space");
      await settle("ok", "ok");
      for (const method of ["Converse", "Countdown", "Reserve"]) {
        await part("wire-call", `[data-method$="/${method}"][data-via="direct"]`).waitFor();
      }
      await check("without the proxy");
    },
    "the wire": async () => {
      const call = part("wire-call", '[data-method$="/Reserve"]');
      await reach(call, "a call on the wire");
      await page.keyboard.press("Enter");
      if ((await call.getAttribute("aria-pressed")) !== "true") {
        findings.push("Enter doesn't choose a call");
      }
      await check("with a failed call", false);
      const talk = part("wire-call", '[data-method$="/Converse"]');
      await talk.press("Enter");
      const first = page.locator('[data-testid="wire-messages"] > *').first();
      if ((await first.getAttribute("data-kind")) !== "handshake" || !(await first.isVisible())) {
        findings.push("the wire doesn't start at the handshake");
      }
      for (const [name, row] of [
        ["the handshake", first],
        ["the tokens", part("wire-run", '[data-kind="token"]')],
        ["a message", part("wire-message", '[data-kind="message"][data-direction="out"]')],
      ]) {
        await reach(row.locator("summary").first(), name);
        await page.keyboard.press("Enter");
        if (!(await row.evaluate((e) => e.open))) {
          findings.push(`Enter doesn't open ${name}`);
        }
      }
      const folded = part("wire-run", '[data-kind="token"]');
      const count = await folded.locator('[data-testid="wire-message"]').count();
      if (count < 10 || String(count) !== (await folded.getAttribute("data-count"))) {
        findings.push(`the tokens open to ${count} messages`);
      }
      await check("with open messages");
    },
    "one WebSocket": async () => {
      await part("chat-all").click();
      const talks = page.locator('[data-testid="wire-call"][data-method$="/Converse"][data-via="direct"]');
      await talks.nth(4).waitFor();
      for (const talk of await talks.all()) {
        await talk.and(page.locator('[data-stream]:not([data-stream=""])')).waitFor();
      }
      const carriers = await talks.evaluateAll((rows) => rows.map((r) => [r.dataset.socket, r.dataset.stream]));
      const [sockets, streams] = [0, 1].map((i) => new Set(carriers.map((c) => c[i])));
      if (sockets.size !== 1 || streams.size !== carriers.length) {
        findings.push(`the conversations travel in the WebSockets and streams ${carriers.join(" ")}`);
      }
      await page.locator('[data-testid="wire-call"][data-method$="/Converse"][data-code="OK"][data-via="direct"]').nth(3).waitFor();
      await check("with five streams", false);
    },
    "the verdict": async () => {
      const reserve = "**/culvert.demo.v1.Demo/Reserve";
      broken = true;
      await page.route(reserve, (route) => route.abort());
      await part("reserve-send").click();
      await settle("ok", "bad");
      await page.unroute(reserve);
      await part("reserve-send").click();
      await settle("ok", "ok");
      broken = false;
    },
    "results of the present path": async () => {
      // The proxy was in the path before, so the page has older results of this path.
      const stale = await page.evaluate(() => {
        const lanes = "[data-testid^=lane-] [data-testid=lane-call]";
        document.querySelector("[data-testid=path-switch]").click();
        // No call on the new path can have ended yet.
        return [...document.querySelectorAll(lanes)].filter((c) => c.dataset.code !== "CALLING").map((c) => `${c.dataset.method} ${c.dataset.code}`);
      });
      if (stale.length > 0) {
        findings.push(`after the switch, the lanes still show ${stale.join(", ")}`);
      }
      await settle("bad", "ok");
    },
    "more calls than the wire lists": async () => {
      const listed = page.locator('[data-testid="wire-call"]');
      for (let calls = 0; (await listed.and(page.locator('[data-method$="/Converse"]')).count()) > 0; calls++) {
        if (calls > 100) {
          throw new Error("the wire still lists the conversations after a hundred calls");
        }
        await part("reserve-send").click();
      }
      await settle("bad", "ok");
    },
    "the way on": async () => {
      await reach(part("copy"), "the copy button");
      await page.keyboard.press("Enter");
      await part("copy").filter({ hasText: "Copied" }).waitFor();
      const copied = await page.evaluate(() => navigator.clipboard.readText());
      if (copied !== command) {
        findings.push(`the button copies ${copied}`);
      }
      await check("with the command copied", false);
    },
  };
  for (const [name, run] of Object.entries(checks)) {
    await run().catch((error) => findings.push(`${name}: ${error.message}`));
  }
  const name = `${colorScheme} ${width}`;
  if (directory !== undefined) {
    await page.screenshot({ path: join(directory, `${name.replace(" ", "-")}.png`), fullPage: true });
  }
  await context.close();
  return { name, findings };
}

const browser = await launch();
try {
  const looks = [];
  for (const colorScheme of ["light", "dark"]) {
    // The widths at the same time: most of a look is waiting for calls.
    looks.push(...(await Promise.all([390, 768, 1024, 1280, 1920].map((width) => look(browser, colorScheme, width)))));
  }
  console.log(JSON.stringify(looks));
} finally {
  await browser.close();
}
