// Starts the headless browsers of the tests, with Puppeteer: Chromium by DevTools' protocol, Firefox by WebDriver BiDi.

import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import puppeteer from "puppeteer-core";

const browsers = {
  chromium: {
    names: ["chromium", "chromium-browser", "google-chrome"],
    debian: "chromium",
    options: {
      browser: "chrome",
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-component-update"],
      // So that pages are cached, hidden and slowed down as those of users.
      ignoreDefaultArgs: [
        "--disable-back-forward-cache",
        "--disable-background-timer-throttling",
        "--disable-backgrounding-occluded-windows",
        "--disable-renderer-backgrounding",
      ],
    },
  },
  firefox: {
    names: ["firefox-esr", "firefox"],
    debian: "firefox-esr",
    options: { browser: "firefox" },
  },
};

export const names = Object.keys(browsers);

/** Starts the browser of this name. Its commands have no time-out, unless a page sets one. */
export async function launch(name) {
  const { names, debian, options } = browsers[name];
  const executablePath = (process.env.PATH ?? "")
    .split(delimiter)
    .flatMap((dir) => names.map((name) => join(dir, name)))
    .find(existsSync);
  if (executablePath === undefined) {
    throw new Error(`${names.join(", ")}: there is none on PATH: run make deps, or install the package ${debian}`);
  }
  return puppeteer.launch({ ...options, executablePath, timeout: 120_000, protocolTimeout: 0, defaultViewport: null });
}
