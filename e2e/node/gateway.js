// Shops in the page of ../../examples/api-gateway in headless Chromium, with its token and with another one, and
// prints what the page shows and how many WebSockets it has opened: a line of JSON each.
//
//   node gateway.js http://…

import { launch } from "./browser.js";

const browser = await launch();
try {
  for (const token of [undefined, "guessed"]) {
    const page = await browser.newPage();
    page.on("pageerror", (e) => console.error(e.stack));
    let connections = 0;
    page.on("websocket", (ws) => {
      connections += ws.url().includes("token=") ? 0 : 1; // Vite's have a token in their URL
    });
    await page.goto(process.argv[2]);
    if (token !== undefined) {
      await page.locator("#token").fill(token);
    }
    await page.locator("#shop").click();
    await page.locator("#log li").first().waitFor();
    await page.locator("#shop:enabled").waitFor();
    console.log(JSON.stringify({ connections, shown: await page.locator("#log li").allTextContents() }));
    await page.close();
  }
} finally {
  await browser.close();
}
