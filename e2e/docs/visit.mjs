// Opens a page in headless Chromium and waits until it shows a text.
//
//   node visit.mjs URL TEXT
import { launch } from "../node/browser.js";

const [url, text] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  page.on("console", (message) => console.log(message.text()));
  page.on("pageerror", (error) => console.log(String(error)));
  await page.goto(url);
  await page
    .waitForFunction((wanted) => document.body.innerText.trim() === wanted, text, { timeout: 120_000 })
    .catch(async (error) => {
      console.log(await page.innerText("body"));
      throw error;
    });
} finally {
  await browser.close();
}
