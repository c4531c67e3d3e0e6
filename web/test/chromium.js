// Starts the headless Chromium of the tests.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

/** Starts it, with further arguments, and without some that Playwright gives it. */
export async function launch(further = [], ignoreDefaultArgs = []) {
  const executablePath = (process.env.PATH ?? "")
    .split(delimiter)
    .flatMap((dir) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(dir, name)))
    .find(existsSync);
  if (executablePath === undefined) {
    throw new Error("there is no chromium on PATH: install the package chromium");
  }
  return chromium.launch({
    executablePath,
    timeout: 120_000,
    ignoreDefaultArgs,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...further,
    ],
  });
}
