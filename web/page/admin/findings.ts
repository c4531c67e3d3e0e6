// What is wrong, the worst first. Pure.

import type { Backends, Calls, Certificates, Failures, Limits, Memory, Status } from "./api.js";
import { ago, between, bytes, count, duration, plural } from "./format.js";

export interface Finding {
  /** bad: somebody must act. warn: it works, but worse. */
  tone: "bad" | "warn";
  text: string;
  /** Its details. */
  more: string;
  /** The section that shows it. */
  to: string;
}

export interface Seen {
  status: Status;
  calls: Calls;
  backends: Backends;
  memory: Memory;
  limits: Limits;
  failures: Failures;
  certificates: Certificates;
}

/** How far back failures and refusals count, in seconds. */
export const recent = 300;
/** Failures of each origin that culvert keeps. */
const kept = 200;
/** The part of the memory limit from which on it is said. */
const full = 0.9;

export function findings(seen: Seen): Finding[] {
  const all = [
    ...ofProgram(seen.status),
    ...ofBackends(seen.backends),
    ...ofCertificates(seen.certificates),
    ...ofMemory(seen.memory),
    ...ofWaiting(seen.calls),
    ...ofFailures(seen.failures),
    ...ofLimits(seen.limits, seen.failures),
  ];
  return [...all.filter((f) => f.tone === "bad"), ...all.filter((f) => f.tone === "warn")];
}

const first = (lines: string[]) => `${lines[0]}${lines.length > 1 ? ` (and ${lines.length - 1} more)` : ""}`;

/** The problems, without that of a rejected configuration: its reasons say more. */
export const problemsOf = ({ problems, configuration: c }: Status) =>
  problems.filter((p) => c.rejected.length === 0 || !p.startsWith("the newest configuration in "));

function ofProgram(status: Status): Finding[] {
  const { at, drain, configuration: c } = status;
  const found: Finding[] = [];
  const to = "#configuration";
  if (c.rejected.length > 0) {
    const when = c.rejected_at ? ` ${ago(c.rejected_at, at)}` : "";
    found.push({ tone: "bad", text: `culvert rejected the newest configuration${when}`, more: first(c.rejected), to });
  }
  for (const text of problemsOf(status)) {
    found.push({ tone: "bad", text, more: "", to: text.startsWith("auth.") ? "#identity" : to });
  }
  if (drain.state !== "serving") {
    found.push({ tone: "warn", text: drainWords(drain), more: `${plural(drain.calls, "call")} still run`, to });
  }
  return found;
}

/** How far a drain has come. */
export function drainWords({ state, refuses_in: left }: Status["drain"]): string {
  switch (state) {
    case "serving":
      return "serving";
    case "delayed":
      return `draining: not ready, refuses new calls in ${duration(Math.ceil(left ?? 0))}`;
    default:
      return "draining: refuses new calls";
  }
}

function ofBackends({ backends }: Backends): Finding[] {
  return backends.flatMap((b): Finding[] => {
    const [to, name] = ["#backends", `Backend ${b.name}`];
    if (b.draining) {
      return [];
    }
    const failing = b.addresses.filter((a) => a.unhealthy || a.failure !== "");
    const why = failing.map((a) => `${a.address}: ${a.failure || "its health check fails"}`);
    if (b.state === "transient_failure" || (b.addresses.length > 0 && failing.length === b.addresses.length)) {
      return [{ tone: "bad", text: `${name} can't be reached`, more: why.length > 0 ? first(why) : "", to }];
    }
    return failing.length > 0
      ? [
          {
            tone: "warn",
            text: `${name}: ${failing.length} of ${plural(b.addresses.length, "address", "addresses")} fail`,
            more: first(why),
            to,
          },
        ]
      : [];
  });
}

function ofCertificates({ certificates, problems }: Certificates): Finding[] {
  const to = "#certificates";
  const ends = certificates.flatMap((c): Finding[] => {
    const name = `The certificate for ${c.names.length > 0 ? first(c.names) : c.file || "no name"}`;
    if (c.expires_in_seconds <= 0) {
      return [{ tone: "bad", text: `${name} has expired`, more: c.file, to }];
    }
    return c.ending ? [{ tone: "warn", text: `${name} expires in ${duration(c.expires_in_seconds)}`, more: c.file, to }] : [];
  });
  return [...problems.map((text): Finding => ({ tone: "bad", text, more: "", to })), ...ends];
}

function ofMemory(m: Memory): Finding[] {
  const parts: [held: number, limit: number, of: string][] = [
    [m.held_bytes, m.limit_bytes, "the memory"],
    [m.message_bytes, m.message_limit_bytes, "the memory for messages"],
  ];
  return parts
    .filter(([held, limit]) => limit > 0 && held >= full * limit)
    .map(([held, limit, of]) => ({
      tone: "warn",
      text: `${Math.floor((100 * held) / limit)} % of ${of} is in use`,
      more: `${bytes(held)} of ${bytes(limit)}`,
      to: "#memory",
    }));
}

/** What a call waits for, as who is slow. */
export const waits: Record<string, string> = {
  client: "client doesn't read",
  backend: "backend doesn't read",
  memory: "no memory is free",
  place: "backend has no place",
  answer: "backend hasn't answered",
};

function ofWaiting({ waiting, calls }: Calls): Finding[] {
  return (["memory", "place", "backend", "client"] as const)
    .filter((w) => waiting[w] > 0)
    .map((w) => {
      const longest = Math.max(0, ...calls.filter((c) => c.waits_for === w).map((c) => c.waiting_seconds));
      const n = waiting[w];
      return {
        tone: "warn",
        text: `${plural(n, "call")} ${n === 1 ? "waits" : "wait"}: ${waits[w]}`,
        more: longest > 0 ? `the longest for ${duration(longest)}` : "",
        to: `#calls?order=waiting&waits_for=${w}`,
      };
    });
}

/** The failures of the last minutes by origin and reason, the most frequent first. A client's own ends aren't among them. */
function ofFailures({ at, failures }: Failures): Finding[] {
  const groups = new Map<string, Failures["failures"]>();
  const sizes = new Map<string, number>(); // of each origin
  for (const f of failures) {
    sizes.set(f.origin, (sizes.get(f.origin) ?? 0) + 1);
    if (f.origin !== "client" && between(f.at, at) <= recent) {
      const key = JSON.stringify([f.origin, f.reason]);
      groups.set(key, [...(groups.get(key) ?? []), f]);
    }
  }
  return [...groups.values()]
    .sort((a, b) => b.length - a.length)
    .flatMap((group): Finding[] => {
      const f = group[0];
      if (f === undefined) {
        return [];
      }
      // culvert keeps the last ones of each origin. If all of them are recent, there were more.
      const mine = failures.filter((x) => x.origin === f.origin);
      const oldest = mine.at(-1);
      const more = (sizes.get(f.origin) ?? 0) >= kept && oldest !== undefined && between(oldest.at, at) <= recent;
      const query = new URLSearchParams({ origin: f.origin, ...(f.reason ? { reason: f.reason } : {}) });
      return [
        {
          tone: "warn",
          text: `${more ? "at least " : ""}${plural(group.length, "failure")} in ${duration(recent)}: ${f.origin} ${f.reason || f.code}`,
          more: `the last ${ago(f.at, at)}: ${f.message || f.cause || f.code}`,
          to: `#failures?${query}`,
        },
      ];
    });
}

/** Refusals of the last minutes, unless failures tell of their reason already. */
function ofLimits({ at, last }: Limits, { failures }: Failures): Finding[] {
  const told = new Set(failures.filter((f) => between(f.at, at) <= recent).map((f) => f.reason));
  const keys = new Map<string, Limits["last"]>();
  for (const r of last.filter((r) => !r.report_only && !told.has(r.reason) && between(r.at, at) <= recent)) {
    keys.set(r.key, [...(keys.get(r.key) ?? []), r]);
  }
  return [...keys].flatMap(([key, group]): Finding[] => {
    const r = group[0];
    return r === undefined
      ? []
      : [
          {
            tone: "warn",
            text: `${count(group.length)} refused in ${duration(recent)}: ${key}`,
            more: `the last ${ago(r.at, at)}: ${[r.peer, r.detail].filter(Boolean).join(" ")}`,
            to: "#limits",
          },
        ];
  });
}
