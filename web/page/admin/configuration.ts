// The configuration in effect, why a newer file isn't, the log's level and the drain.

import { change, type Status, says } from "./api.js";
import { h, show } from "./dom.js";
import { drainWords, problemsOf } from "./findings.js";
import { ago, between, duration, plural } from "./format.js";
import { lines } from "./lists.js";
import { facts, moment, type View } from "./view.js";

const levels = ["debug", "info", "warn", "error"];

export function configurationView(tell: (text: string, failed: boolean) => void, after: () => void): View {
  const about = facts();
  const problems = h("ul", { class: "findings" });
  const why = h("p");
  const rejected = h("ul", { class: "lines" });
  const difference = h("ul", { class: "lines" });
  const newer = h(
    "section",
    { class: "newer", "aria-labelledby": "newer-title" },
    h("h2", { id: "newer-title" }, "The newest file isn't in use"),
    why,
    rejected,
    h("h3", {}, "Keys that differ in it"),
    difference,
  );
  const level = h("select", { id: "level" }, ...levels.map((l) => h("option", { value: l }, l)));
  let inEffect = "";
  const form = h("form", { class: "bar" }, h("label", {}, "Level of the log", level), h("button", { type: "submit" }, "Set"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void set(level.value);
  });

  async function set(to: string) {
    try {
      const now = (await change("PUT", "log-level", to)).trim();
      tell(`The level of the log is ${now}, until a reload or the next start sets another.`, false);
    } catch (e) {
      tell(`The level of the log stays ${inEffect}: ${says(e)}`, true);
    }
    after();
  }

  return {
    title: "Configuration",
    every: 5000,
    element: h("div", {}, problems, newer, about.element, form),
    async look(_, s: Status) {
      const c = s.configuration;
      lines(problems, problemsOf(s), "bad");
      newer.hidden = c.rejected.length === 0;
      show(why, `culvert rejected it${c.rejected_at ? ` ${ago(c.rejected_at, s.at)}` : ""}, and goes on with version ${c.version}.`);
      lines(rejected, c.rejected);
      const restart = new Set(c.restart);
      const keys = c.difference.map((key) => (restart.has(key) ? `${key} (needs a restart)` : key));
      lines(difference, keys.length > 0 || newer.hidden ? keys : ["The file can't be read, or differs in none."]);
      about.update([
        ["File", c.file || "none"],
        ["Version", c.version],
        ["In effect since", moment(c.since, s.at)],
        ["Values", { text: "all, without secrets", to: "config" }],
        ["State", `${drainWords(s.drain)}, ${plural(s.drain.calls, "call")} ${s.drain.calls === 1 ? "runs" : "run"}`],
        ["culvert", `${s.version}, up for ${duration(between(s.started, s.at))}`],
      ]);
      if (s.log_level !== inEffect) {
        inEffect = s.log_level;
        level.value = s.log_level; // only now: a person may be choosing
      }
    },
  };
}
