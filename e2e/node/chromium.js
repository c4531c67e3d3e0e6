// Runs jobs in headless Chromium. Each client has a page of its own, loaded from
// the URL that comes with its jobs, and connections that it shares with no other.

import { launch } from "./browser.js";
import { conduct } from "./conduct.js";

const browser = await launch();
try {
  await conduct(
    async ({ page: url, proxy }) => {
      // All but the page itself. Without the first rule nothing on this machine would go through the proxy.
      const proxied = proxy && { proxy: { server: proxy, bypass: `<-loopback>,${new URL(url).host}` } };
      const page = await (await browser.newContext({ ignoreHTTPSErrors: true, ...proxied })).newPage();
      page.on("pageerror", (e) => console.error(e.stack));
      await page.goto(url);
      return (job) => page.evaluate((j) => window.runJob(j), job);
    },
    () => Promise.all(browser.contexts().map((c) => c.close())),
  );
} finally {
  await browser.close();
}
