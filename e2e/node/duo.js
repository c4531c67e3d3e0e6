// Has the conversation of ../../examples/duo-workflow in its page in headless Chromium, over each of the protocols
// that the page offers, and prints what the page shows: a line of JSON each.
//
//   node duo.js http://… [screenshot.png]

import { launch } from "./browser.js";

const [url, screenshot] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  page.on("pageerror", (e) => console.error(e.stack));
  await page.goto(url);
  for (const protocol of await page.locator("#protocol option").allTextContents()) {
    await page.locator("#protocol").selectOption(protocol);
    await page.locator("#ask").click();
    await page.locator("#ask:enabled").waitFor();
    const shown = await page.locator("#log p").evaluateAll((all) => all.map((p) => `${p.className}: ${p.textContent}`));
    process.stdout.write(`${JSON.stringify({ protocol, shown })}\n`);
  }
  if (screenshot !== undefined) {
    await page.screenshot({ path: screenshot });
  }
} finally {
  await browser.close();
}
