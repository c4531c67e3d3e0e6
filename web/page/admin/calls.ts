// The open calls: which they are, who waits for whom, and the end of one.

import { type Call, type Calls, get, type Waiting } from "./api.js";
import { h, type Part, show, type Tone } from "./dom.js";
import { waits } from "./findings.js";
import { bytes, count, duration, plural } from "./format.js";
import { type Column, table } from "./table.js";
import { link, type View, way, when, who } from "./view.js";

const orders: Record<string, string> = {
  age: "oldest",
  waiting: "waiting longest",
  last_message: "quietest",
  messages: "most messages",
  bytes: "most bytes",
  memory: "most memory",
};

const fields: Record<string, string> = {
  method: "method has",
  peer: "client address has",
  identity: "identity has",
  route: "route is",
  backend: "backend is",
  listener: "listener is",
  transport: "transport is",
  id: "ID is",
};

/** The call's id and begin: clients choose ids, so one may be there twice. */
export const callKey = (c: Call) => `${c.id} ${c.began}`;

/** What a call waits for. */
export function waitsFor(c: Call): Part[] {
  if (c.waits_for === "") {
    return ["–"];
  }
  const tone: Tone = c.waits_for === "answer" ? "idle" : "warn";
  return [
    { text: waits[c.waits_for] ?? c.waits_for, badge: tone },
    { text: `for ${duration(Math.floor(c.waiting_seconds))}`, soft: true },
  ];
}

/** The columns that every list of calls has. */
export function columns(stop: (c: Call) => void): Column<Call>[] {
  const traffic = (messages: number, size: number): Part[] => [plural(messages, "message"), { text: bytes(size), soft: true }];
  return [
    { head: "Method", cell: (c) => [c.method, { text: c.id, soft: true }] },
    { head: "Waits", cell: waitsFor },
    { head: "Age", number: true, cell: (c) => ({ text: duration(Math.floor(c.age_seconds)), title: c.began }) },
    { head: "From the client", number: true, cell: (c) => traffic(c.messages_in, c.bytes_in) },
    { head: "To the client", number: true, cell: (c) => traffic(c.messages_out, c.bytes_out) },
    { head: "Last message", number: true, cell: (c, at) => (c.last_message ? when(c.last_message, at) : "none") },
    { head: "Memory", number: true, cell: (c) => bytes(c.memory_bytes) },
    { head: "Client", cell: who },
    { head: "Backend", cell: (c) => way(c.route, c.backend) },
    { head: "End", cell: (c) => ({ text: "Stop…", label: `Stop ${c.method} ${c.id}`, press: () => stop(c) }) },
  ];
}

export function callsView(stop: (c: Call) => void): View {
  let parameters = new URLSearchParams();
  const go = (change: Record<string, string>) => {
    location.hash = link("calls", { ...Object.fromEntries(parameters), ...change });
  };

  const order: HTMLSelectElement = h("select", {
    id: "order",
    onchange: () => go({ order: order.value === "age" ? "" : order.value }),
  });
  order.append(...Object.entries(orders).map(([value, text]) => h("option", { value }, text)));
  const field = h("select", { id: "field" });
  field.append(...Object.entries(fields).map(([value, text]) => h("option", { value }, text)));
  const text = h("input", { id: "filter", type: "search", maxlength: "200", autocomplete: "off", spellcheck: "false" });
  const form = h(
    "form",
    { class: "bar" },
    h("label", {}, "Order", order),
    h("label", {}, "Filter", field),
    h("label", {}, h("span", { class: "hidden" }, "Text of the filter"), text),
    h("button", { type: "submit", class: "quiet" }, "Apply"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const none = Object.fromEntries(Object.keys(fields).map((f) => [f, ""]));
    go({ ...none, [field.value]: text.value.trim() });
  });

  const chips = h("ul", { class: "chips", "aria-label": "What calls wait for" });
  const summary = h("p", { class: "soft" });
  const list = table<Call>("Open calls", "No call is open that the filter selects.", callKey, columns(stop));

  let last: { waiting: Waiting; open: number } | undefined; // what culvert said

  function showWaiting({ waiting, open }: { waiting: Waiting; open: number }) {
    const chosen = parameters.get("waits_for") ?? "";
    const kinds: [string, string, number][] = [["", "all", open]];
    for (const [kind, n] of Object.entries(waiting)) {
      kinds.push([kind, waits[kind] ?? kind, n]);
    }
    while (chips.children.length < kinds.length) {
      chips.append(h("li"));
    }
    kinds.forEach(([kind, name, n], i) => {
      const li = chips.children[i] as HTMLElement;
      const to = link("calls", { ...Object.fromEntries(parameters), waits_for: kind, order: kind === "" ? "" : "waiting" });
      show(li, { text: `${name} ${count(n)}`, to, ...(n > 0 && kind !== "" && kind !== "answer" ? { badge: "warn" } : {}) });
      if (kind === chosen) {
        li.firstElementChild?.setAttribute("aria-current", "true");
      } else {
        li.firstElementChild?.removeAttribute("aria-current");
      }
    });
  }

  return {
    title: "Open calls",
    every: 2000,
    element: h("div", {}, chips, form, summary, list.element),
    open(given) {
      parameters = given;
      order.value = given.get("order") ?? "age";
      const [name, value] = [...given].find(([name]) => name in fields) ?? ["method", ""];
      field.value = name;
      text.value = value;
      if (last !== undefined) {
        showWaiting(last); // its links keep the new parameters
      }
    },
    async look(signal) {
      const calls = await get<Calls>(`calls?${parameters}`, signal);
      last = calls;
      showWaiting(calls);
      const [listed, matching, open] = [calls.calls.length, calls.matching, plural(calls.open, "open call")];
      const of = matching < calls.open ? `${count(matching)} of ${open}` : open;
      show(summary, listed < matching ? `The first ${count(listed)} of ${of}.` : `${of}.`);
      list.update(calls.calls, calls.at);
    },
  };
}
