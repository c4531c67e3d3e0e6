// The page of culvert's own that tests the network, with diagnose(). The server's texts become text nodes only.

import settings from "../../client/doctor/settings.json" with { type: "json" };
import { diagnose, type Finding, type Report } from "../src/diagnose.js";
import { order } from "../src/doctor/finding.js";

const find = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
// The page is at _culvert/doctor below the base URL.
const base = new URL("..", location.href).href;

function element<K extends keyof HTMLElementTagNameMap>(tag: K, text: string, kind = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kind;
  return made;
}

const { pages, programs }: Record<"pages" | "programs", Record<string, string>> = settings;

const tone = (result: string) => (result === "works" || result === "yes" ? "ok" : result === "can't tell" ? "soft" : "bad");

function showFindings(findings: Finding[]) {
  const sorted = [...findings].sort((a, b) => order.indexOf(a.probe) - order.indexOf(b.probe));
  find("findings").replaceChildren(
    ...sorted.map(({ probe, result, evidence }) => {
      const row = document.createElement("tr");
      row.append(element("td", probe), element("td", result, tone(result)), element("td", evidence ?? "", "soft"));
      return row;
    }),
  );
  find<HTMLProgressElement>("progress").value = findings.length;
}

function showReport({ bidirectional, verdicts, findings }: Report) {
  showFindings(findings);
  const possible = find("possible");
  possible.textContent = `Bidirectional streams: ${bidirectional}`;
  possible.className = `badge ${tone(bidirectional)}`;
  find("verdicts").replaceChildren(
    ...verdicts.flatMap(({ words, evidence }) => [element("p", words), ...(evidence ? [element("p", evidence, "soft")] : [])]),
  );
  const [way] = verdicts;
  const settings = [
    ["For pages", pages[way?.pages ?? ""]],
    ["For programs", programs[way?.programs ?? ""]],
  ].filter(([, value]) => value) as [string, string][];
  find("settings").replaceChildren(...settings.flatMap(([name, value]) => [element("dt", name, "soft"), element("dd", value)]));
  const asks = new Set(verdicts.flatMap(({ ask }) => (ask ? [ask] : [])));
  find("asks").replaceChildren(...[...asks].map((ask) => element("li", ask)));
  find("team").hidden = asks.size === 0;
  find("result").hidden = false;
}

let report: Report | undefined;

async function run() {
  const start = find<HTMLButtonElement>("start");
  const status = find("status");
  const seconds = Number(find<HTMLSelectElement>("idle").value);
  const findings: Finding[] = [];
  start.disabled = true;
  find("result").hidden = true;
  find("copied").textContent = "";
  const progress = find<HTMLProgressElement>("progress");
  progress.hidden = false;
  progress.max = seconds ? 17 : 14;
  showFindings(findings);
  status.textContent = `Testing. This takes at most ${30 + (seconds && seconds + 20)} seconds.`;
  try {
    report = await diagnose(base, {
      idleMs: 1000 * seconds,
      progress: (finding) => {
        findings.push(finding);
        showFindings(findings);
      },
    });
    showReport(report);
    status.textContent = "Done.";
  } catch (e) {
    status.textContent = `The test failed: ${e}`;
  }
  progress.hidden = true;
  start.disabled = false;
}

async function copy() {
  const text = JSON.stringify(report, undefined, 2);
  const told = find("copied");
  try {
    await navigator.clipboard.writeText(text);
    told.textContent = "Copied.";
  } catch {
    // Without TLS there is no clipboard: the report is shown, to be copied by hand.
    const shown = document.createElement("textarea");
    shown.value = text;
    shown.readOnly = true;
    shown.rows = 12;
    shown.setAttribute("aria-label", "the report");
    told.replaceChildren(shown);
    shown.select();
  }
}

find("edge").textContent = new URL(base).host;
find("form").addEventListener("submit", (e) => {
  e.preventDefault();
  void run();
});
find("copy").addEventListener("click", () => void copy());
void run();
