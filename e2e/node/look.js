// Looks at a page as a person and axe-core do.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Returns a line for each breach of axe-core's rules. */
export async function breaches(page) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.flatMap((v) => v.nodes.map((n) => `axe: ${v.id}: ${n.html.slice(0, 200)}: ${n.failureSummary}`));
}

/** Runs in the page: returns each text that doesn't fit where it stands, without those in elements that match. */
export function findCutText(without) {
  const found = [];
  const { scrollWidth } = document.documentElement;
  if (scrollWidth > innerWidth) {
    found.push(`the page scrolls horizontally: ${scrollWidth} of ${innerWidth} pixels`);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const parent = text.parentElement;
    if (text.data.trim() === "" || !parent.checkVisibility() || parent.closest(`${without}, noscript, script`)) {
      continue;
    }
    const range = document.createRange();
    range.selectNodeContents(text);
    const box = range.getBoundingClientRect();
    const report = (what) => found.push(`${what}: "${text.data.trim().slice(0, 60)}" (${parent.className || parent.localName})`);
    if (box.left < -0.5 || box.right > innerWidth + 0.5) {
      report("beyond the edge of the screen");
    }
    for (let e = parent; e !== document.body; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.display === "inline" || style.display === "contents") {
        continue;
      }
      const outer = e.getBoundingClientRect();
      if (box.left < outer.left - 1 || box.right > outer.right + 1) {
        report(`beside its box ${e.className || e.localName}`);
        break;
      }
      if (style.overflowY === "auto" || style.overflowY === "scroll") {
        break; // the rest is reached by scrolling
      }
      if (box.top < outer.top - 2 || box.bottom > outer.bottom + 2) {
        report(`above or below its box ${e.className || e.localName}`);
        break;
      }
    }
  }
  return found;
}
