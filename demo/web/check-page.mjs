// Looks at the page of a running demo in headless Chromium, clicks through it
// and leaves screenshots. For people who change the page; the end-to-end tests
// have a check of their own.
//
//   node check-page.mjs http://127.0.0.1:8080/ DIRECTORY
import { join } from "node:path";
// The browser is that of the end-to-end tests, and so is its version.
import { launch } from "../../e2e/node/browser.js";

const [url, directory] = process.argv.slice(2);

const browser = await launch();
let failed = false;
try {
  for (const [name, viewport, colorScheme] of [
    ["desktop-light", { width: 1280, height: 900 }, "light"],
    ["desktop-dark", { width: 1280, height: 900 }, "dark"],
    ["phone-light", { width: 375, height: 812 }, "light"],
    ["phone-dark", { width: 375, height: 812 }, "dark"],
  ]) {
    const context = await browser.newContext({ viewport, colorScheme });
    const page = await context.newPage();
    const complain = (text) => {
      failed = true;
      console.error(`${name}: ${text}`);
    };
    page.on("console", (m) => m.type() === "error" && complain(`console: ${m.text()}`));
    page.on("pageerror", (e) => complain(`error: ${e}`));
    page.on("request", (r) => new URL(r.url()).hostname !== new URL(url).hostname && complain(`foreign request: ${r.url()}`));
    const shoot = (what) => page.screenshot({ path: join(directory, `${name}-${what}.png`), fullPage: true });
    const at = (testId) => page.getByTestId(testId);
    const until = (testId, text, timeout = 15_000) => at(testId).filter({ hasText: text }).waitFor({ timeout });
    try {
      await page.goto(url);
      await until("native-status", "OK");
      await until("reserve-status", "INVALID_ARGUMENT");
      await until("countdown-status", "OK after");
      await page.locator('[data-kind="message"][data-direction="in"]', { hasText: '"end"' }).waitFor();
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      if (wide) {
        complain("the page scrolls sideways");
      }
      await shoot("1-start");

      await page.locator('[data-testid="wire-call"][data-method$="/Reserve"]').first().click();
      await at("wire-trailers").locator("summary").click();
      await at("wire-headers").locator("summary").click();
      await page.locator('[data-testid="wire-message"][data-kind="trailers"] summary').click();
      await shoot("2-failure");

      await at("path-switch").check();
      await until("native-status", "UNAVAILABLE");
      await until("bridged-result", "Through the proxy");
      await page.locator('[data-role="assistant"]', { hasText: "I am here" }).waitFor();
      await page.locator('[data-kind="message"][data-direction="in"]', { hasText: '"end"' }).waitFor();
      await at("countdown-start").click();
      await until("countdown-status", "OK after");
      await at("reserve-preset").nth(1).click();
      await until("reserve-status", "RESOURCE_EXHAUSTED");
      await shoot("3-proxied");

      await at("chat-input").fill("Which languages do I speak, and what time is it?");
      await at("chat-send").click();
      await page.locator('[data-role="tool"]', { hasText: "local_time" }).nth(1).waitFor();
      await at("chat-stop").click();
      await page.locator('[data-role="assistant"]', { hasText: "(stopped)" }).waitFor();
      await at("suggestion").nth(3).click();
      await page.locator('[data-role="tool"]', { hasText: "local_time" }).nth(2).waitFor();
      await at("chat-end").click();
      await until("chat-status", "OK");
      await at("countdown-from").fill("400");
      await at("countdown-start").click();
      await at("countdown-number").nth(4).waitFor();
      await at("countdown-cancel").click();
      await until("countdown-status", "CANCELLED");
      await at("reserve-preset").nth(2).click();
      await until("reserve-status", "reserved as");
      await shoot("4-ends");

      await at("path-switch").uncheck();
      await until("native-status", "OK");
      await until("bridged-result", "Directly");
      await page.locator('[data-role="note"]', { hasText: "directly" }).waitFor();
    } catch (cause) {
      complain(String(cause));
      await shoot("failed");
    }
    await context.close();
  }
} finally {
  await browser.close();
}
console.log(failed ? "failed" : "all as it should be");
process.exitCode = failed ? 1 : 0;
