// The first section: what is wrong, and a few figures.

import type { Backends, Call, Calls, Certificates, Connections, Failures, Limits, Memory, Routes, Status } from "./api.js";
import { get } from "./api.js";
import { callKey, columns } from "./calls.js";
import { h, show } from "./dom.js";
import { findings } from "./findings.js";
import { bytes, count, duration, rate } from "./format.js";
import { table } from "./table.js";
import { facts, type View } from "./view.js";

const most = 5; // waiting calls

export function overview(stop: (c: Call) => void): View {
  const wrong = h("ul", { class: "findings", "aria-label": "What is wrong" });
  const figures = facts("tiles");
  const waiting = table<Call>("Calls that wait longest", "No call waits.", callKey, columns(stop));

  function showFindings(list: ReturnType<typeof findings>) {
    while (wrong.children.length > Math.max(1, list.length)) {
      wrong.lastElementChild?.remove();
    }
    while (wrong.children.length < Math.max(1, list.length)) {
      wrong.append(h("li"));
    }
    list.forEach(({ tone, text, more, to }, i) => {
      const li = wrong.children[i] as HTMLElement;
      li.className = tone;
      show(li, [{ text, to }, ...(more ? [{ text: more, soft: true }] : [])]);
    });
    const [only] = wrong.children;
    if (list.length === 0 && only) {
      only.className = "ok";
      show(only, "Nothing is wrong that culvert knows of.");
    }
  }

  return {
    title: "Overview",
    every: 3000,
    element: h("div", {}, wrong, figures.element, waiting.element),
    async look(signal, status: Status) {
      // One after the other: culvert answers few requests at once.
      const calls = await get<Calls>(`calls?order=waiting&limit=100`, signal);
      const backends = await get<Backends>("backends", signal);
      const memory = await get<Memory>("memory?limit=0", signal);
      const limits = await get<Limits>("limits", signal);
      const failures = await get<Failures>("failures", signal);
      const certificates = await get<Certificates>("certificates", signal);
      const connections = await get<Connections>("connections", signal);
      const { routes } = await get<Routes>("routes", signal);
      showFindings(findings({ status, calls, backends, memory, limits, failures, certificates }));
      const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
      const ended = sum(routes.map((r) => r.calls_per_second));
      const mean = ended > 0 ? sum(routes.map((r) => r.mean_seconds * r.calls_per_second)) / ended : 0;
      figures.update([
        ["Open calls", { text: count(calls.open), to: "#calls" }],
        ["Connections", { text: count(sum(connections.connections.map((c) => c.open))), to: "#connections" }],
        ["Calls", { text: rate(ended), to: "#routes" }],
        ["Errors", { text: rate(sum(routes.map((r) => r.errors_per_second))), to: "#routes" }],
        ["Mean duration", { text: ended > 0 ? duration(mean) : "–", to: "#routes" }],
        ["Memory", { text: bytes(memory.held_bytes), to: "#memory" }],
      ]);
      const longest = calls.calls.filter((c) => c.waits_for !== "").slice(0, most);
      waiting.element.hidden = longest.length === 0;
      waiting.update(longest, calls.at);
    },
  };
}
