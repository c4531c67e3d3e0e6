// The sections that are tables of what culvert says.

import type {
  ACMEName,
  Address,
  Backend,
  Backends,
  Call,
  Certificate,
  Certificates,
  Connections,
  Failure,
  Failures,
  Limits,
  Memory,
  Routes,
} from "./api.js";
import { get } from "./api.js";
import { callKey, columns } from "./calls.js";
import { h, type Part, show, type Tone } from "./dom.js";
import { ago, between, bytes, clock, count, duration, plural, rate } from "./format.js";
import { table } from "./table.js";
import { facts, link, moment, type View, way, who } from "./view.js";

const every = 5000; // ms
const name = (text: string) => text || "–";

export function connectionsView(): View {
  type Connection = Connections["connections"][number];
  type Count = Connections["calls"][number];
  const key = (c: Count) => `${c.listener} ${c.transport}`;
  const connections = table<Connection>("Connections of clients", "No client is connected.", key, [
    { head: "Listener", cell: (c) => name(c.listener) },
    { head: "Transport", cell: (c) => c.transport || "no request yet" },
    { head: "Open", number: true, cell: (c) => count(c.open) },
    { head: "Of these, tunnels", number: true, cell: (c) => count(c.tunnels) },
  ]);
  const calls = table<Count>("Open calls", "No call is open.", key, [
    { head: "Listener", cell: (c) => name(c.listener) },
    { head: "Transport", cell: (c) => c.transport },
    {
      head: "Open",
      number: true,
      cell: (c) => ({ text: count(c.open), to: link("calls", { listener: c.listener, transport: c.transport }) }),
    },
  ]);
  return {
    title: "Connections and tunnels",
    every,
    element: h("div", {}, connections.element, calls.element),
    async look(signal) {
      const data = await get<Connections>("connections", signal);
      connections.update(data.connections, data.at);
      calls.update(data.calls, data.at);
    },
  };
}

const states: Record<string, Tone> = { ready: "ok", idle: "idle", connecting: "warn", transient_failure: "bad", shutdown: "idle" };

export function backendsView(): View {
  type Line = Address & { backend: string };
  const backends = table<Backend>("Backends", "There is no backend.", (b) => `${b.name} ${b.draining}`, [
    { head: "Backend", cell: (b) => b.name },
    {
      head: "State",
      cell: (b) => [
        { text: b.state.replace("_", " "), badge: states[b.state] ?? "idle" },
        ...(b.draining ? [{ text: "replaced or removed", soft: true }] : []),
      ],
    },
    { head: "Open calls", number: true, cell: (b) => ({ text: count(b.calls), to: link("calls", { backend: b.name }) }) },
    { head: "Waiting", number: true, cell: (b) => (b.waiting > 0 ? { text: count(b.waiting), badge: "warn" } : "0") },
    { head: "Lost pings", number: true, cell: (b) => count(b.lost_pings) },
    { head: "Retries by policy", number: true, cell: (b) => count(b.retries_by_policy) },
    { head: "Retries elsewhere", number: true, cell: (b) => count(b.retries_elsewhere) },
    { head: "Retries withheld", number: true, cell: (b) => count(b.retries_withheld) },
  ]);
  const state = (a: Line): Part =>
    a.unhealthy
      ? { text: "unhealthy", badge: "bad" }
      : a.failure !== ""
        ? { text: "fails", badge: "bad" }
        : a.accepts
          ? { text: "accepts", badge: "ok" }
          : { text: "accepts none", badge: "idle" };
  const addresses = table<Line>("Addresses", "No address is known.", (a) => `${a.backend} ${a.address}`, [
    { head: "Backend", cell: (a) => a.backend },
    { head: "Address", cell: (a) => a.address },
    { head: "State", cell: (a) => [state(a), ...(a.failure ? [{ text: a.failure, soft: true }] : [])] },
    { head: "Connections", number: true, cell: (a) => count(a.connections) },
    { head: "Calls", number: true, cell: (a) => count(a.calls) },
    { head: "Places", number: true, cell: (a) => (a.places < 0 ? "no limit" : count(a.places)) },
    { head: "Calls so far", number: true, cell: (a) => count(a.picks) },
  ]);
  return {
    title: "Backends",
    every,
    element: h("div", {}, backends.element, addresses.element),
    async look(signal) {
      const data = await get<Backends>("backends", signal);
      backends.update(data.backends, data.at);
      addresses.update(
        data.backends.flatMap((b) => b.addresses.map((a) => ({ ...a, backend: b.name }))),
        data.at,
      );
    },
  };
}

export function routesView(): View {
  const about = h("p", { class: "soft" });
  const routes = table<Routes["routes"][number]>("Ended calls", "No call has ended.", (r) => `${r.route} ${r.backend}`, [
    { head: "Route", cell: (r) => name(r.route) },
    { head: "Backend", cell: (r) => name(r.backend) },
    { head: "Calls", number: true, cell: (r) => rate(r.calls_per_second) },
    { head: "Errors", number: true, cell: (r) => (r.errors_per_second > 0 ? { text: rate(r.errors_per_second), badge: "warn" } : "0 /s") },
    { head: "Mean duration", number: true, cell: (r) => (r.mean_seconds > 0 ? duration(r.mean_seconds) : "–") },
    { head: "Calls so far", number: true, cell: (r) => count(r.calls) },
    { head: "Errors so far", number: true, cell: (r) => count(r.errors) },
    { head: "Cancelled so far", number: true, cell: (r) => count(r.cancelled) },
  ]);
  return {
    title: "Routes",
    every,
    element: h("div", {}, about, routes.element),
    async look(signal) {
      const data = await get<Routes>("routes", signal);
      const left = data.left > 0 ? ` ${plural(data.left, "call")} of removed or further routes and backends aren't listed.` : "";
      show(
        about,
        `Rates and durations are of the last ${duration(data.window_seconds)}. The counts began at ${clock(data.since, data.at)}.${left}`,
      );
      const worst = [...data.routes].sort((a, b) => b.errors_per_second - a.errors_per_second || b.calls_per_second - a.calls_per_second);
      routes.update(worst, data.at);
    },
  };
}

export function memoryView(stop: (c: Call) => void): View {
  const totals = facts("tiles");
  const meter = h("meter", { "aria-label": "Memory in use", min: "0", max: "1", high: "0.9", value: "0" });
  const calls = table<Call>("Calls that hold most", "No call holds memory.", callKey, columns(stop));
  const addresses = table<Memory["addresses"][number]>(
    "Client addresses whose calls hold most",
    "No client holds memory.",
    (a) => a.address,
    [
      { head: "Address", cell: (a) => a.address },
      { head: "Calls", number: true, cell: (a) => ({ text: count(a.calls), to: link("calls", { peer: a.address, order: "memory" }) }) },
      { head: "Memory", number: true, cell: (a) => bytes(a.memory_bytes) },
    ],
  );
  const connections = table<Memory["connections"][number]>(
    "Connections that hold most themselves",
    "No client is connected.",
    (c) => `${c.listener} ${c.peer}`,
    [
      { head: "Client", cell: (c) => c.peer },
      { head: "Listener", cell: (c) => name(c.listener) },
      { head: "Transport", cell: (c) => c.transport || "no request yet" },
      { head: "Calls", number: true, cell: (c) => ({ text: count(c.calls), to: link("calls", { peer: c.peer, order: "memory" }) }) },
      { head: "Memory without calls", number: true, cell: (c) => bytes(c.memory_bytes) },
    ],
  );
  const left = h("p", { class: "soft" });
  const of = (held: number, limit: number) => (limit > 0 ? `${bytes(held)} of ${bytes(limit)}` : bytes(held));
  return {
    title: "Memory",
    every,
    element: h("div", {}, totals.element, meter, calls.element, addresses.element, left, connections.element),
    async look(signal) {
      const m = await get<Memory>("memory", signal);
      totals.update([
        ["In use", of(m.held_bytes, m.limit_bytes)],
        ["Of messages", of(m.message_bytes, m.message_limit_bytes)],
        ["Of calls", bytes(m.call_bytes)],
        ["Of connections and others", bytes(m.other_bytes)],
        ["Calls that ended to free memory", count(m.evicted)],
      ]);
      meter.hidden = m.limit_bytes === 0;
      meter.value = m.limit_bytes > 0 ? m.held_bytes / m.limit_bytes : 0;
      calls.update(m.calls, m.at);
      addresses.update(m.addresses, m.at);
      connections.update(m.connections, m.at);
      show(left, m.addresses_left > 0 ? `And ${plural(m.addresses_left, "further address", "further addresses")}.` : "");
    },
  };
}

export function limitsView(): View {
  const limits = table<Limits["limits"][number]>(
    "Limits and rules that refused something",
    "Nothing was refused.",
    (l) => `${l.key} ${l.reason}`,
    [
      { head: "Key", cell: (l) => l.key },
      { head: "Reason", cell: (l) => l.reason },
      { head: "Refused", number: true, cell: (l) => count(l.refused) },
      { head: "Would have been refused", number: true, cell: (l) => count(l.report_only) },
      { head: "Last", number: true, cell: (l, at) => moment(l.last, at) },
    ],
  );
  const last = table<Limits["last"][number]>("Last refusals", "Nothing was refused.", (r) => `${r.at} ${r.key} ${r.peer}`, [
    { head: "Time", whole: true, cell: (r, at) => moment(r.at, at) },
    { head: "Key", cell: (r) => [r.key, ...(r.report_only ? [{ text: "only reported", soft: true }] : [])] },
    { head: "Reason", cell: (r) => r.reason },
    { head: "Client", cell: (r) => r.peer },
    { head: "What was refused", cell: (r) => name(r.detail) },
  ]);
  return {
    title: "Limits",
    every,
    element: h("div", {}, limits.element, last.element),
    async look(signal) {
      const data = await get<Limits>("limits", signal);
      limits.update(data.limits, data.at);
      last.update(data.last, data.at);
    },
  };
}

export function failuresView(): View {
  let parameters = new URLSearchParams();
  const filter = h("p", { class: "soft" });
  const counts = table<Failures["counts"][number]>(
    "Since culvert started",
    "Nothing has failed.",
    (c) => `${c.origin} ${c.reason} ${c.code}`,
    [
      { head: "Origin", cell: (c) => c.origin },
      { head: "Reason", cell: (c) => ({ text: c.reason || "any", to: link("failures", { origin: c.origin, reason: c.reason }) }) },
      { head: "Code", cell: (c) => c.code },
      { head: "Failed", number: true, cell: (c) => count(c.failed) },
    ],
  );
  const tones: Record<string, Tone> = { upstream: "warn", culvert: "bad", client: "idle" };
  const last = table<Failure>("Last failures", "Nothing has failed that the filter selects.", (f) => `${f.at} ${f.id}`, [
    { head: "Time", whole: true, cell: (f, at) => moment(f.at, at) },
    {
      head: "Origin",
      cell: (f) =>
        [
          { text: f.origin, badge: tones[f.origin] ?? "idle" },
          { text: f.limit, soft: true },
        ].filter((p) => p.text !== ""),
    },
    { head: "Code", whole: true, cell: (f) => [f.code, ...(f.reason ? [{ text: f.reason, soft: true }] : [])] },
    { head: "Method", cell: (f) => [f.method, { text: f.id, soft: true }] },
    { head: "Message", cell: (f) => [f.message || f.cause || "–", ...(f.message && f.cause ? [{ text: f.cause, soft: true }] : [])] },
    { head: "Client", cell: who },
    { head: "Backend", cell: (f) => way(f.route, f.backend) },
    { head: "After", number: true, cell: (f) => duration(f.duration_seconds) },
  ]);
  return {
    title: "Failures",
    every,
    element: h("div", {}, filter, last.element, counts.element),
    open(given) {
      parameters = given;
      const chosen = [given.get("origin"), given.get("reason")].filter(Boolean).join(" ");
      show(filter, chosen ? [`Only those of ${chosen}. `, { text: "Show all", to: "#failures" }] : "");
    },
    async look(signal) {
      const data = await get<Failures>(`failures?${parameters}`, signal);
      last.update(data.failures, data.at);
      counts.update(data.counts, data.at);
    },
  };
}

export function certificatesView(): View {
  const problems = h("ul", { class: "findings" });
  const expiry = (c: Certificate): Part =>
    c.expires_in_seconds <= 0
      ? { text: "has expired", badge: "bad" }
      : { text: `in ${duration(c.expires_in_seconds)}`, badge: c.ending ? "warn" : "ok" };
  const certificates = table<Certificate>("Certificates", "culvert has no certificate.", (c) => `${c.names} ${c.file} ${c.source}`, [
    { head: "Names", cell: (c) => name(c.names.join(", ")) },
    {
      head: "Source",
      cell: (c) => [
        c.source,
        ...[c.file, c.on_demand ? "asked for by a client" : ""].filter(Boolean).map((text) => ({ text, soft: true })),
      ],
    },
    { head: "Expires", cell: (c, at) => [expiry(c), { text: clock(c.not_after, at), soft: true, title: c.not_after }] },
  ]);
  const names = table<ACMEName>("Names with ACME", "There is none.", (n) => n.name, [
    { head: "Name", cell: (n) => [n.name, ...(n.on_demand ? [{ text: "asked for by a client", soft: true }] : [])] },
    { head: "State", cell: (n) => ({ text: n.state, badge: acmeStates[n.state] ?? "idle" }) },
    { head: "Certificate expires", cell: (n, at) => (n.not_after ? until(n.not_after, at, "has expired") : "there is none") },
    { head: "Next try", cell: (n, at) => (n.next_try ? until(n.next_try, at, "now") : "is under way") },
    {
      head: "Problem",
      cell: (n, at) =>
        n.failing_since
          ? [
              n.problem,
              { text: `${plural(n.failures, "failure")}, the first ${ago(n.failing_since, at)}`, soft: true, title: n.failing_since },
            ]
          : "–",
    },
  ]);
  const left = h("p", { class: "soft" });
  return {
    title: "Certificates",
    every,
    element: h("div", {}, problems, certificates.element, names.element, left),
    async look(signal) {
      const data = await get<Certificates>("certificates", signal);
      lines(problems, data.problems, "bad");
      certificates.update(data.certificates, data.at);
      names.element.hidden = data.acme.length === 0;
      names.update(data.acme, data.at);
      show(left, data.acme_left > 0 ? `And ${plural(data.acme_left, "further name")} that clients asked for.` : "");
    },
  };
}

const acmeStates: Record<string, Tone> = { obtaining: "warn", valid: "ok", renewing: "ok", failing: "bad" };

/** How long it is until a time, with the time below it. */
export const until = (time: string, at: string, past: string): Part[] => [
  Date.parse(time) > Date.parse(at) ? `in ${duration(Math.ceil(between(at, time)))}` : past,
  { text: clock(time, at), soft: true, title: time },
];

/** Shows texts as the items of a list. */
export function lines(list: HTMLElement, texts: string[], kind = ""): void {
  while (list.children.length > texts.length) {
    list.lastElementChild?.remove();
  }
  texts.forEach((text, i) => {
    if (i === list.children.length) {
      list.append(h("li", { class: kind }));
    }
    show(list.children[i] as Element, text);
  });
  list.hidden = texts.length === 0;
}
