import type { JsonValue } from "@bufbuild/protobuf";
import { hexDump } from "./describe.ts";
import { badge, find, formatBytes, formatDuration, h } from "./dom.ts";
import type { Field } from "./frame.ts";
import type { Path } from "./path.ts";
import type { WireCall, WireEvent, WireLog } from "./wire-log.ts";

/** The panel, for the cards. */
export interface WireView {
  /** Shows the call that begins next. */
  showNext(): void;
  /** Shows the newest call of a transport. */
  showLatest(transport: WireCall["transport"]): void;
}

const maxEventsShown = 500;

/** Runs the panel "On the wire": the list of calls, and the events of one. */
export function showWire(log: WireLog, path: Path): WireView {
  const list = find("wire-calls", HTMLElement);
  const detail = find("wire-detail", HTMLElement);
  const sockets = find("wire-sockets", HTMLElement);
  const streams = new Map<number, Set<number>>(); // by WebSocket
  const rows = new Map<WireCall, HTMLElement>();
  let shown: WireCall | undefined;
  let view: CallView | undefined;
  let next = false; // whether to show the call that begins next

  function select(call: WireCall): void {
    if (call === shown) {
      return;
    }
    shown = call;
    view = createCallView(call);
    detail.replaceChildren(view.element);
    for (const [other, row] of rows) {
      row.setAttribute("aria-pressed", String(other === call));
    }
  }

  function addRow(call: WireCall): HTMLElement {
    const row = h("button", {
      type: "button",
      class: "call-row",
      "aria-pressed": "false",
      "data-testid": "wire-call",
      onclick: () => select(call),
    });
    rows.set(call, row);
    list.firstElementChild?.after(row); // below the names of the columns
    for (const [old, oldRow] of rows) {
      if (!log.calls.includes(old)) {
        rows.delete(old);
        oldRow.remove();
      }
    }
    return row;
  }

  function countStream({ socket, stream }: NonNullable<WireCall["carrier"]>): void {
    const known = streams.get(socket) ?? new Set();
    streams.set(socket, known.add(stream));
    sockets.replaceChildren(
      ...[...streams].map(([id, { size }]) => h("span", {}, `WebSocket ${id}: ${size} bidirectional stream${size === 1 ? "" : "s"}`)),
    );
  }

  log.subscribe((call, event) => {
    if (call.carrier !== undefined) {
      countStream(call.carrier);
    }
    const known = rows.get(call);
    fillRow(known ?? addRow(call), call, path);
    if (known === undefined && next) {
      next = false;
      select(call);
    } else if (call === shown) {
      view?.update(event);
    }
  });

  return {
    showNext() {
      next = true;
    },
    showLatest(transport) {
      const call = log.calls.find((c) => c.transport === transport);
      if (call !== undefined) {
        select(call);
      }
    },
  };
}

/** Fills a call's row in the list. */
function fillRow(row: HTMLElement, call: WireCall, path: Path): void {
  row.dataset.transport = call.transport;
  row.dataset.method = call.path;
  row.dataset.socket = String(call.carrier?.socket ?? "");
  row.dataset.stream = String(call.carrier?.stream ?? "");
  row.dataset.code = call.status?.name ?? "";
  row.dataset.origin = call.origin;
  row.dataset.via = path.isProxied(call.origin) ? "proxy" : "direct";
  row.replaceChildren(
    statusBadge(call),
    h("b", {}, call.path.slice(call.path.lastIndexOf("/") + 1)),
    h("span", {}, call.carrier === undefined ? call.transport : `WebSocket ${call.carrier.socket}, #${call.carrier.stream}`),
    h("span", { class: `via ${row.dataset.via}` }, row.dataset.via === "proxy" ? "via proxy" : "direct"),
    h("span", { class: "num sent" }, formatBytes(call.bytesOut)),
    h("span", { class: "num received" }, formatBytes(call.bytesIn)),
    h("span", { class: "num" }, call.durationMs === undefined ? "" : formatDuration(call.durationMs)),
  );
}

function statusBadge(call: WireCall): HTMLElement {
  if (call.durationMs === undefined && call.status === undefined) {
    return badge("OPEN", "ok");
  }
  if (call.events.at(-1)?.kind === "cancel") {
    return badge("CANCELLED", "idle");
  }
  return badge(call.status?.name ?? "CUT", call.status?.code === 0 ? "ok" : "bad");
}

interface CallView {
  element: HTMLElement;
  /** Follows a change of the call. The event is the one that was added, if any. */
  update(event: WireEvent | undefined): void;
}

const carriers: Record<WireCall["transport"], string> = {
  h2ts: "HTTP/2 inside a WebSocket, which carries all of these calls at the same time; both sides send at any time",
  "grpc-web": "an HTTP POST for each call; the trailers are the last frame of the response body",
};

/** Shows one call: its status, events, headers and trailers. */
function createCallView(call: WireCall): CallView {
  const status = h("div", { class: "outcome", "data-testid": "wire-status" });
  const details = h("div", { class: "details", "data-testid": "wire-details" });
  // The list starts at the handshake and doesn't scroll by itself.
  const events = h("div", {
    class: "events",
    "data-testid": "wire-messages",
    role: "group",
    tabindex: "0",
    "aria-label": "Events of the call",
  });
  const request = fieldsView("Request headers", "wire-request-headers");
  const header = fieldsView("Response headers", "wire-headers");
  const trailer = fieldsView("Trailers", "wire-trailers");
  let run: Run | undefined; // at the end of the list, if it can grow

  function showState(): void {
    status.replaceChildren(statusBadge(call), ` ${call.status?.message ?? ""}`);
    details.replaceChildren(
      ...(call.status?.details ?? []).map((d) =>
        h(
          "div",
          { class: "detail", "data-testid": "wire-status-detail", "data-type": d.name },
          h("b", {}, d.name),
          h("pre", {}, typeof d.value === "string" ? d.value : JSON.stringify(d.value)),
        ),
      ),
    );
    request.show(call.requestHeaders);
    header.show(call.headers);
    trailer.show(call.trailers);
  }

  function add(event: WireEvent): void {
    const part = foldable(event);
    if (part !== undefined && run?.field === part.field) {
      run.add(event, part.text);
      return;
    }
    run = part && createRun(part.field);
    run?.add(event, part?.text ?? "");
    events.append(run?.element ?? eventView(event));
    if (events.childElementCount > maxEventsShown) {
      events.firstElementChild?.remove();
    }
  }

  for (const event of call.events) {
    add(event);
  }
  showState();
  return {
    element: h(
      "div",
      { class: "call-view" },
      h(
        "p",
        { class: "call-head" },
        h("code", {}, call.path),
        ` to ${call.origin}`,
        h("br"),
        h("small", { class: "soft" }, `${call.transport}: ${carriers[call.transport]}`),
      ),
      status,
      details,
      events,
      request.element,
      header.element,
      trailer.element,
    ),
    update(event) {
      if (event !== undefined) {
        add(event);
      }
      if (event === undefined || event.kind !== "message") {
        showState();
      }
    },
  };
}

/** The messages of a stream that fold into one line: tokens of an answer, numbers of a countdown. */
const runNames: Record<string, string> = { token: "token", left: "number" };

/** Returns the field that makes a message foldable, and its text. */
function foldable({ kind, direction, content }: WireEvent): { field: string; text: string } | undefined {
  if (kind !== "message" || direction !== "in" || typeof content !== "object" || content === null || Array.isArray(content)) {
    return undefined;
  }
  const field = Object.keys(runNames).find((name) => name in content);
  if (field === undefined) {
    return undefined;
  }
  const value = content[field];
  const text = typeof value === "object" && value !== null && "text" in value ? String(value.text) : `${value} `;
  return { field, text };
}

interface Run {
  element: HTMLElement;
  field: string;
  add(event: WireEvent, text: string): void;
}

/** Makes one line for messages of the same kind in a row. It opens to the single messages. */
function createRun(field: string): Run {
  const events: WireEvent[] = [];
  const summary = h("summary");
  const body = h("div", { class: "run-body" });
  let text = "";
  let rendered = 0;

  function render(): void {
    body.append(...events.slice(Math.max(rendered, events.length - maxEventsShown)).map(eventView));
    while (body.childElementCount > maxEventsShown) {
      body.firstElementChild?.remove();
    }
    rendered = events.length;
  }

  const element = h(
    "details",
    {
      class: "event in run",
      "data-testid": "wire-run",
      "data-kind": field,
      ontoggle: () => {
        if (element.open) {
          render();
        }
      },
    },
    summary,
    body,
  );
  return {
    element,
    field,
    add(event, part) {
      events.push(event);
      text = (text + part).slice(0, 200);
      const bytes = events.reduce((sum, e) => sum + e.raw.length, 0);
      const name = `${events.length} ${runNames[field]}${events.length === 1 ? "" : "s"}`;
      summary.replaceChildren(...summaryLine(events[0] ?? event, name, bytes, text));
      element.dataset.count = String(events.length);
      if (element.open) {
        render();
      }
    },
  };
}

/** Makes the cells of an event's line. */
function summaryLine(event: WireEvent, kind: string, bytes: number, preview: string): HTMLElement[] {
  const sent = event.direction === "out";
  return [
    h("span", { class: "num" }, formatDuration(event.atMs)),
    h("span", { class: "arrow", title: sent ? "sent" : "received" }, sent ? "↑" : "↓"),
    h("span", { class: "kind" }, kind),
    h("span", { class: "num" }, bytes === 0 ? "" : formatBytes(bytes)),
    h("span", { class: "preview" }, preview),
  ];
}

/** Makes an event's line. It opens to the content and the bytes, if there are any. */
function eventView(event: WireEvent): HTMLElement {
  const preview = typeof event.content === "string" ? event.content.split("\n", 1)[0] : JSON.stringify(event.content);
  const cells = summaryLine(event, event.kind, event.raw.length, preview ?? "");
  const props = {
    class: `event ${event.direction}`,
    "data-testid": "wire-message",
    "data-direction": event.direction,
    "data-kind": event.kind,
    "data-bytes": String(event.raw.length),
  };
  if (event.content === undefined && event.raw.length === 0) {
    return h("div", props, h("div", { class: "summary" }, ...cells));
  }
  const body = h("div", { class: "event-body" });
  const fill = () => {
    if (body.childElementCount === 0) {
      body.append(
        ...(event.content === undefined ? [] : [h("pre", {}, pretty(event.content))]),
        ...(event.raw.length === 0 ? [] : [h("pre", { class: "hex", tabindex: "0", "aria-label": "Bytes" }, hexDump(event.raw))]),
      );
    }
  };
  return h("details", { ...props, ontoggle: fill }, h("summary", {}, ...cells), body);
}

function pretty(value: JsonValue): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** A table of headers or trailers that opens from a heading. */
function fieldsView(title: string, testId: string): { element: HTMLElement; show(fields: readonly Field[]): void } {
  const count = h("small", { class: "soft" });
  const rows = h("dl");
  const element = h("details", { class: "fields-view", "data-testid": testId }, h("summary", {}, `${title} `, count), rows);
  let shown: readonly Field[] | undefined;
  return {
    element,
    show(fields) {
      if (fields === shown) {
        return;
      }
      shown = fields;
      count.textContent = String(fields.length);
      rows.replaceChildren(...fields.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    },
  };
}
