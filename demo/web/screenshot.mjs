// Takes the picture of a running demo: the first screen, with the
// inspecting proxy in the path, after every call has a result.
//
//	node screenshot.mjs http://127.0.0.1:8080/ FILE.png
//
// With a directory in place of the file, it takes the frames of the README's
// animation: the switch goes on and off again. frames.json has their times.
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
// The browser and its version are those of the end-to-end tests.
import { launch } from "../../e2e/node/browser.js";

const [url, target] = process.argv.slice(2);
const animated = statSync(target, { throwIfNoEntry: false })?.isDirectory() ?? false;

// Both end below the lanes. The animation is three quarters of the page's size.
const size = animated ? { viewport: { width: 1280, height: 704 }, deviceScaleFactor: 0.75 } : { viewport: { width: 1280, height: 704 } };

/** Waits for the page's transitions, which end by themselves. */
function settled(page) {
  const finite = (animation) => animation.effect.getComputedTiming().endTime !== Number.POSITIVE_INFINITY;
  return page.evaluate(`Promise.all(document.getAnimations().filter(${finite}).map((a) => a.finished)).then(() => {})`);
}

async function takePicture(page) {
  await settled(page);
  await page.screenshot({ path: target });
  // For the test that holds the picture.
  console.log(
    JSON.stringify({
      title: await page.title(),
      direct: await page.getByTestId("verdict-direct").innerText(),
      culvert: await page.getByTestId("verdict-culvert").innerText(),
      codes: await page.getByTestId("lane-call").evaluateAll((calls) => calls.map((c) => `${c.dataset.method} ${c.dataset.code}`)),
      messages: await page.getByTestId("wire-message").count(),
      conversation: await page.locator('[data-role="assistant"]').allInnerTexts(),
    }),
  );
}

/** Takes frames from a click on the switch until the lanes have a verdict. */
async function takeFrames(page, direct) {
  const frames = [];
  const take = async (hold) => {
    const file = `${direct}-${String(frames.length).padStart(3, "0")}.png`;
    const last = { file, at: performance.now(), hold };
    await page.screenshot({ path: join(target, file) });
    frames.push({ ...last, state: await page.locator(".lane").evaluateAll((lanes) => lanes.map((l) => l.dataset.state).join(" ")) });
  };
  await take(1500);
  // No call begins before the first frame behind the click was taken: on a busy machine,
  // a frame takes longer than the calls, and there would be none of them.
  let begin;
  const taken = new Promise((resolve) => {
    begin = resolve;
  });
  await page.route("**", (route) => taken.then(() => route.continue()));
  await page.getByTestId("path-switch").click();
  await take(0);
  begin();
  await page.unrouteAll({ behavior: "wait" });
  do {
    await take(0);
  } while (frames.at(-1).state !== `${direct} ok` || (await page.getByTestId("chat-stop").isEnabled()));
  await settled(page);
  await take(3000);
  return frames; // held, moving, held
}

const browser = await launch();
try {
  const page = await browser.newPage({ ...size, colorScheme: "light" });
  page.setDefaultTimeout(120_000); // for a busy machine
  const verdict = (direct) =>
    page.locator(`[data-testid="lane-direct"][data-state="${direct}"] + [data-testid="lane-culvert"][data-state="ok"]`).waitFor();
  await page.goto(url);
  await verdict("bad");
  await page.locator('[data-testid="chat-stop"]:disabled').waitFor();
  if (animated) {
    await page.getByTestId("path-switch").click();
    await verdict("ok");
    await page.locator('[data-testid="chat-stop"]:disabled').waitFor();
    await settled(page);
    const frames = [...(await takeFrames(page, "bad")), ...(await takeFrames(page, "ok"))];
    writeFileSync(join(target, "frames.json"), JSON.stringify(frames));
  } else {
    await takePicture(page);
  }
} finally {
  await browser.close();
}
