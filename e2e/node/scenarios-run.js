// Runs scenarios.js where the test wants it: scenarios-run.js node|chromium URL. In
// Chromium it is in a page that the test serves at the same host.

import { register } from "node:module";
import { launch } from "./browser.js";

const [place, url] = process.argv.slice(2);
if (place === "node") {
  register("./culvert-web.js", import.meta.url);
  const { obey } = await import("./scenarios.js"); // not before that
  const { WebSocket } = await import("ws");
  await obey(url, WebSocket, globalThis.WebSocket ?? WebSocket); // Node has its own from version 22 on
} else {
  const browser = await launch();
  try {
    const page = await browser.newPage();
    page.on("pageerror", (e) => console.error(e.stack));
    const { host } = new URL(url);
    await page.goto(`http://${host}/`);
    await page.evaluate((u) => window.obey(u), url);
  } finally {
    await browser.close();
  }
}
process.exit(); // connections that are idle would keep it for a minute
