// Runs jobs in headless Chromium. Each client has a page of its own, loaded from
// the URL that comes with its jobs, and connections that it shares with no other.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";
import { conduct } from "./conduct.js";

const executablePath = (process.env.PATH ?? "")
  .split(delimiter)
  .flatMap((dir) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(dir, name)))
  .find(existsSync);
if (executablePath === undefined) {
  throw new Error("there is no chromium on PATH: install the package chromium");
}

const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
try {
  await conduct(
    async ({ page: url }) => {
      const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
      page.on("pageerror", (e) => console.error(e.stack));
      await page.goto(url);
      return (job) => page.evaluate((j) => window.runJob(j), job);
    },
    () => Promise.all(browser.contexts().map((c) => c.close())),
  );
} finally {
  await browser.close();
}
