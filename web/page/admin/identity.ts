// Refused callers with the reasons, and the keys, rules and services that decide.

import { type Auth, type AuthService, get, type Issuer } from "./api.js";
import { h, type Part, type Piece } from "./dom.js";
import { bytes, count, duration, plural } from "./format.js";
import { lines, until } from "./lists.js";
import { type Table, table } from "./table.js";
import { facts, link, moment, type View } from "./view.js";

/** How it is with an issuer's keys. */
function keysOf(i: Issuer): Piece {
  if (i.keys > 0) {
    return i.problem ? { text: "last good keys", badge: "warn" } : { text: "up to date", badge: "ok" };
  }
  return i.problem || i.fetched ? { text: "no keys", badge: "bad" } : { text: "not fetched yet", badge: "warn" };
}

/** Whether a service answers. */
function answers(s: AuthService): Part[] {
  if (s.problem) {
    return [
      { text: "fails", badge: "bad" },
      { text: s.problem, soft: true },
    ];
  }
  return s.mean_seconds > 0 ? [{ text: "answers", badge: "ok" }] : [{ text: "not asked yet", badge: "idle" }];
}

export function identityView(): View {
  const refused = table<Auth["refused"][number]>("Refused calls", "No call was refused.", (r) => `${r.key} ${r.issuer} ${r.reason}`, [
    { head: "What refused", cell: (r) => [r.key, ...(r.issuer ? [{ text: `issuer ${r.issuer}`, soft: true }] : [])] },
    { head: "Reason", whole: true, cell: (r) => ({ text: r.reason, to: link("failures", { reason: r.reason }) }) },
    { head: "Calls", number: true, cell: (r) => count(r.calls) },
    { head: "Last", number: true, cell: (r, at) => moment(r.last, at) },
    { head: "Cause of the last", cell: (r) => r.cause || "–" },
  ]);
  const issuers = table<Issuer>("Issuers", "There is none.", (i) => i.name, [
    { head: "Issuer", cell: (i) => [i.name, { text: i.issuer, soft: true }] },
    { head: "State", cell: keysOf },
    { head: "Keys", number: true, cell: (i) => count(i.keys) },
    { head: "Fetched", whole: true, cell: (i, at) => (i.fetched ? moment(i.fetched, at) : "not yet") },
    {
      head: "Next",
      whole: true,
      cell: (i, at) => (i.next ? until(i.next, at, "now") : i.fetched ? "when the file changes" : "is under way"),
    },
    {
      head: "Problem",
      cell: (i) => (i.problem ? [i.problem, { text: plural(i.failures, "failure"), soft: true }] : "–"),
    },
    {
      head: "Unusable keys",
      cell: (i) => (i.skipped.length > 0 ? i.skipped.map((k) => ({ text: `${k.id}: ${k.why}`, soft: true })) : "–"),
    },
  ]);
  const keys = table<Auth["api_key_file"][number]>("API keys", "There is none.", (f) => f.file, [
    { head: "File", cell: (f) => f.file },
    {
      head: "State",
      cell: (f) => (f.problem ? { text: "last good keys", badge: "warn" } : { text: "up to date", badge: "ok" }),
    },
    { head: "Keys", number: true, cell: (f) => count(f.keys) },
    { head: "Read", whole: true, cell: (f, at) => (f.read ? moment(f.read, at) : "not yet") },
    { head: "Problem", cell: (f) => f.problem || "–" },
  ]);
  const services = table<AuthService>("Services that culvert asks", "There is none.", (s) => s.name, [
    { head: "Service", whole: true, cell: (s) => s.name },
    { head: "State", cell: answers },
    { head: "Let pass", number: true, cell: (s) => count(s.allowed) },
    { head: "Refused", number: true, cell: (s) => count(s.denied) },
    { head: "No answer, refused", number: true, cell: (s) => count(s.failed) },
    { head: "No answer, passed", number: true, cell: (s) => count(s.open) },
    { head: "Cancelled", number: true, cell: (s) => count(s.cancelled) },
    { head: "Not asked", number: true, cell: (s) => count(s.unasked) },
    { head: "From the cache", number: true, cell: (s) => count(s.cached) },
    { head: "Shared a question", number: true, cell: (s) => count(s.shared) },
    { head: "Asking", number: true, cell: (s) => count(s.asking) },
    { head: "Mean time", number: true, cell: (s) => (s.mean_seconds > 0 ? duration(s.mean_seconds) : "–") },
  ]);
  const rules = table<Auth["rules"][number]>("Rules", "There is no rule.", (r) => r.name, [
    { head: "Rule", cell: (r) => r.name },
    { head: "Effect", cell: (r) => r.effect },
    { head: "Calls that it decided on", number: true, cell: (r) => count(r.calls) },
  ]);
  const none = h("p", {}, "auth isn't set, so culvert judges no caller: the backend gets the credentials.");
  const tried = h("ul", { class: "findings" });
  const about = facts();
  const all = h("div", {}, tried, about.element, refused.element, rules.element, issuers.element, keys.element, services.element);
  none.hidden = all.hidden = true;

  let unset = ""; // the configuration without auth, which needn't be asked about again

  /** Shows a table if it has rows. */
  function some<Row>(t: Table<Row>, rows: Row[], at: string) {
    t.element.hidden = rows.length === 0;
    t.update(rows, at);
  }

  function update(data: Auth) {
    const { tokens } = data;
    lines(tried, data.enforced ? [] : ["auth.enforce is false, so calls pass that auth refuses"], "warn");
    about.update([
      ["Ways", data.ways.join(", ") || "none"],
      ...(data.since ? [["Counts since", moment(data.since, data.at)] as [string, Part[]]] : []),
      ...(data.issuers.length > 0
        ? ([
            ["Known tokens", `${count(tokens.good)} good, ${count(tokens.refused)} refused, ${bytes(tokens.bytes)}`],
            ["Unverified tokens", `${count(tokens.unverified)} refused, from addresses with too many bad ones`],
          ] as [string, string][])
        : []),
    ]);
    refused.update(data.refused, data.at);
    some(issuers, data.issuers, data.at);
    some(keys, data.api_key_file, data.at);
    some(services, data.services, data.at);
    rules.update(data.rules, data.at);
  }

  return {
    title: "Identity",
    every: 5000,
    element: h("div", {}, none, all),
    async look(signal, { configuration: c }) {
      const now = `${c.version} ${c.since}`;
      if (now === unset) {
        return;
      }
      const data = await get<Auth>("auth", signal);
      unset = data.enabled ? "" : now;
      none.hidden = data.enabled;
      all.hidden = !data.enabled;
      if (data.enabled) {
        update(data);
      }
    },
  };
}
