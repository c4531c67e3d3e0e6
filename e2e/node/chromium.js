// Runs the jobs on standard input in headless Chromium, in pages that it loads
// from the URLs that come with them; the observations go to standard output.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { chromium } from "playwright-core";

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
  const observations = [];
  for (const { page: url, address, jobs } of JSON.parse(await text(process.stdin))) {
    const page = await browser.newPage();
    await page.goto(url);
    observations.push(...(await page.evaluate((work) => window.runJobs(work), { address, jobs })));
    await page.close();
  }
  process.stdout.write(JSON.stringify(observations));
} finally {
  await browser.close();
}
