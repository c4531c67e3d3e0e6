// Starts the headless Chromium of all that needs one: the published clients, the
// documents' snippets, the demo's page.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const patience = 120_000; // in ms: on a busy machine a page takes more than the 30 s that are the default

/** Chromium's arguments. */
export const browserArguments = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Returns the path of Chromium. */
export function findBrowser() {
  const path = (process.env.PATH ?? "")
    .split(delimiter)
    .flatMap((dir) => ["chromium", "chromium-browser", "google-chrome"].map((name) => join(dir, name)))
    .find(existsSync);
  if (path === undefined) {
    throw new Error("there is no chromium on PATH: install the package chromium");
  }
  return path;
}

/** Starts Chromium, with further arguments. */
export async function launch(further = []) {
  const browser = await chromium.launch({ executablePath: findBrowser(), timeout: patience, args: [...browserArguments, ...further] });
  const newContext = browser.newContext.bind(browser); // newPage calls it, too
  browser.newContext = async (options) => {
    const context = await newContext(options);
    context.setDefaultTimeout(patience);
    return context;
  };
  return browser;
}
