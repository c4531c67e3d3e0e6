import type { JsonValue } from "@bufbuild/protobuf";
import { hexDump } from "./describe.ts";
import { badge, find, formatBytes, formatDuration, h } from "./dom.ts";
import type { Field } from "./frame.ts";
import type { WireCall, WireEvent, WireLog } from "./wire-log.ts";

/** What the cards may ask of the panel. */
export interface WireView {
  /** Shows the call that begins next. */
  showNext(): void;
  /** Shows the newest call of a transport. */
  showLatest(transport: WireCall["transport"]): void;
}

const maxEventsShown = 500;

/** Runs the panel "On the wire": the calls, and all that one of them did. */
export function showWire(log: WireLog): WireView {
  const list = find("wire-calls", HTMLElement);
  const detail = find("wire-detail", HTMLElement);
  const rows = new Map<WireCall, HTMLElement>();
  let shown: WireCall | undefined;
  let view: CallView | undefined;
  let next = true; // the call that begins next is to be shown

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
    list.prepend(row);
    for (const [old, oldRow] of rows) {
      if (!log.calls.includes(old)) {
        rows.delete(old);
        oldRow.remove();
      }
    }
    return row;
  }

  log.subscribe((call, event) => {
    const known = rows.get(call);
    fillRow(known ?? addRow(call), call);
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

/** One line in the list of calls. */
function fillRow(row: HTMLElement, call: WireCall): void {
  row.dataset.transport = call.transport;
  row.dataset.method = call.path;
  row.dataset.code = call.status?.name ?? "";
  row.dataset.origin = call.origin;
  row.replaceChildren(
    statusBadge(call),
    h("b", {}, call.path.slice(call.path.lastIndexOf("/") + 1)),
    h("span", {}, call.transport),
    h("span", { class: "num" }, `${formatBytes(call.bytesOut)} ↑`),
    h("span", { class: "num" }, `${formatBytes(call.bytesIn)} ↓`),
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
  /** Follows a change of the call; event is what was added, if anything. */
  update(event: WireEvent | undefined): void;
}

const carriers: Record<WireCall["transport"], string> = {
  "grpc-websockets": "one WebSocket, upgraded from HTTP/1.1; both sides talk at any time",
  "grpc-web": "one HTTP POST; the trailers are the last frame of the body",
};

/** All of one call: how it ended, what crossed, headers and trailers. */
function createCallView(call: WireCall): CallView {
  const status = h("div", { class: "outcome", "data-testid": "wire-status" });
  const details = h("div", { class: "details", "data-testid": "wire-details" });
  const events = h("div", {
    class: "events",
    "data-testid": "wire-messages",
    role: "log",
    "aria-live": "off",
    "aria-label": "Messages",
  });
  const request = fieldsView("Request headers", "wire-request-headers");
  const header = fieldsView("Response headers", "wire-headers");
  const trailer = fieldsView("Trailers", "wire-trailers");

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
    const atEnd = events.scrollHeight - events.scrollTop - events.clientHeight < 40;
    events.append(eventView(event));
    if (events.childElementCount > maxEventsShown) {
      events.firstElementChild?.remove();
    }
    if (atEnd) {
      events.scrollTop = events.scrollHeight;
    }
  }

  for (const event of call.events.slice(-maxEventsShown)) {
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
        h("small", {}, `${call.transport}: ${carriers[call.transport]}`),
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

/** One line, which opens to what was in it. */
function eventView(event: WireEvent): HTMLElement {
  const preview = typeof event.content === "string" ? event.content.split("\n", 1)[0] : JSON.stringify(event.content);
  const body = h("div", { class: "event-body" });
  const element = h(
    "details",
    {
      class: `event ${event.direction}`,
      "data-testid": "wire-message",
      "data-direction": event.direction,
      "data-kind": event.kind,
      "data-bytes": String(event.raw.length),
      ontoggle: () => {
        if (body.childElementCount === 0) {
          body.append(
            ...(event.content === undefined ? [] : [h("pre", {}, pretty(event.content))]),
            ...(event.raw.length === 0 ? [] : [h("pre", { class: "hex" }, hexDump(event.raw))]),
          );
        }
      },
    },
    h(
      "summary",
      {},
      h("span", { class: "num" }, formatDuration(event.atMs)),
      h("span", { class: "arrow", title: event.direction === "out" ? "sent" : "received" }, event.direction === "out" ? "↑" : "↓"),
      h("span", { class: "kind" }, event.kind),
      h("span", { class: "num" }, event.raw.length === 0 ? "" : formatBytes(event.raw.length)),
      h("span", { class: "preview" }, preview ?? ""),
    ),
    body,
  );
  return element;
}

function pretty(value: JsonValue): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** A table of headers or trailers under a heading that folds it. */
function fieldsView(title: string, testId: string): { element: HTMLElement; show(fields: readonly Field[]): void } {
  const count = h("small");
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
