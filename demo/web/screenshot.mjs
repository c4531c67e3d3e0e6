// Takes the picture of the demo that the README shows: a running demo, its switch
// flipped, while the conversation goes on through a proxy that native gRPC does
// not get through.
//
//   node screenshot.mjs http://127.0.0.1:8080/ FILE.png
// The browser is that of the end-to-end tests, and so is its version.
import { launch } from "../../e2e/node/browser.js";

const [url, file] = process.argv.slice(2);

const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 1080, height: 760 }, colorScheme: "light" });
  const until = (testId, text) => page.getByTestId(testId).filter({ hasText: text }).waitFor({ timeout: 15_000 });
  await page.goto(url);
  await until("native-status", "OK");
  await until("countdown-status", "OK after");
  await page.getByTestId("path-switch").check();
  await until("native-status", "UNAVAILABLE");
  await until("bridged-result", "Through the proxy");
  await page.locator('[data-role="assistant"]', { hasText: "I am here" }).waitFor();
  await page.locator('[data-kind="message"][data-direction="in"]', { hasText: '"end"' }).waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: file });
  // What a test holds against the picture: that the page had come to life.
  console.log(
    JSON.stringify({
      title: await page.title(),
      native: await page.getByTestId("native-status").innerText(),
      bridged: await page.getByTestId("bridged-result").innerText(),
      messages: await page.locator('[data-testid="wire-message"]').count(),
      conversation: await page.locator('[data-role="assistant"]').allInnerTexts(),
    }),
  );
} finally {
  await browser.close();
}
