// Has both pages of ../../examples/pages talk in headless Chromium, has Vite reload the hooks of the one with React,
// and prints what the pages show, as JSON.
//
//   node pages.js http://…

import { utimes } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { launch } from "./browser.js";

const url = process.argv[2];
const hooks = fileURLToPath(new URL("../../examples/pages/react/room.js", import.meta.url));
const browser = await launch();
try {
  const context = await browser.newContext();
  const open = async (path, prepare = () => {}) => {
    const page = await context.newPage();
    page.on("pageerror", (e) => console.error(e.stack));
    prepare(page);
    await page.goto(url + path);
    return page;
  };
  const members = [];
  const count = async (page, n) => {
    await page.locator("#members", { hasText: new RegExp(`^${n}$`) }).waitFor();
    members.push(await page.locator("#members").textContent());
  };
  const heard = (page, text) => page.locator("#lines li", { hasText: text }).waitFor();
  const say = async (page, text) => {
    await page.locator("#text").fill(text);
    await page.locator("#text").press("Enter");
  };
  const lines = (page) => page.locator("#lines li").allTextContents();

  const plain = await open("");
  await count(plain, 1);
  const sockets = [];
  let reloaded;
  const reload = new Promise((resolve) => {
    reloaded = resolve;
  });
  const react = await open("react/", (page) => {
    page.on("websocket", (ws) => sockets.push(ws.url().includes("token=") ? "vite-hmr" : "h2ts"));
    page.on("console", (message) => {
      if (message.text().startsWith("[vite] hot updated")) {
        reloaded(message.text());
      }
    });
  });
  await count(react, 2);
  await say(plain, "hello");
  await heard(react, "hello");
  await say(react, "good day");
  await heard(plain, "good day");
  const state = await react.locator("#state").textContent();
  const shown = { plain: await lines(plain), react: await lines(react) };

  await utimes(hooks, new Date(), new Date());
  const hot = await reload;
  await say(react, "still here");
  await heard(plain, "still here");
  await count(plain, 2);
  await react.close();
  await count(plain, 1);
  console.log(JSON.stringify({ ...shown, members, state, reloaded: hot, sockets }));
} finally {
  await browser.close();
}
