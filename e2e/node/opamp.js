// Shows the fleet of ../../examples/opamp in its page in headless Chromium, pushes configurations there, and prints
// the page's rows after each: a line of JSON.
//
//   node opamp.js http://… [screenshot.png]

import { launch } from "./browser.js";

const [url, screenshot] = process.argv.slice(2);
const browser = await launch();
try {
  const page = await browser.newPage();
  page.on("pageerror", (e) => console.error(e.stack));
  await page.goto(url);

  /** Prints the rows, without the seconds, when so many of them have a text, and the result of the push is there. */
  async function rows(n, text, result) {
    await page.waitForFunction(
      ([n, text, result]) =>
        [...document.querySelectorAll("#agents tr")].filter((tr) => tr.textContent.includes(text)).length === n &&
        document.querySelector("#result").textContent === result,
      [n, text, result],
    );
    // In one step: a row that the page has replaced isn't rendered, and its lines are one.
    const shown = await page.evaluate(() =>
      [...document.querySelectorAll("#agents tr")].map((tr) =>
        [...tr.cells].map((td) => td.innerText.replaceAll("\n", ", ").replace(/^\d+ s/, "N s")).join(", "),
      ),
    );
    process.stdout.write(`${JSON.stringify({ result: await page.locator("#result").textContent(), shown })}\n`);
  }

  async function push(to, config) {
    await page.locator("#to").selectOption(to);
    await page.locator("#config").fill(config);
    await page.locator("button").click();
  }

  await rows(6, "healthy", "");
  await push("all agents", "interval: 30s");
  await rows(6, "interval: 30s", "pushed to 6 agents");
  await push("web-1", "interval: soon");
  await rows(1, "refused", "pushed to 1 agent");
  await push("sensor-1", "interval: 5ms");
  await rows(1, "can't measure", "pushed to 1 agent");
  const options = await page.locator("#to option").allTextContents();
  process.stdout.write(`${JSON.stringify({ options })}\n`);
  if (screenshot !== undefined) {
    await page.screenshot({ path: screenshot });
  }
} finally {
  await browser.close();
}
