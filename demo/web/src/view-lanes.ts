import { badge, find, h } from "./dom.ts";
import type { Lane, NativeResult, Path } from "./path.ts";
import type { WireCall, WireLog } from "./wire-log.ts";

/** The three calls that each client makes. */
const methods = [
  { name: "Converse", kind: "bidirectional stream" },
  { name: "Countdown", kind: "server stream" },
  { name: "Reserve", kind: "unary" },
];

/** What one call has come to. "ok" means that the backend's answer arrived. */
interface CallState {
  tone: "ok" | "bad" | "busy";
  code: string;
  note: string;
}

/** What a client's box shows. */
interface ClientState {
  calls: CallState[];
  notes: Node[]; // below the calls
  refused: boolean; // by the inspecting proxy
}

const calling: ClientState = {
  calls: methods.map(() => ({ tone: "busy", code: "CALLING", note: "" })),
  notes: [],
  refused: false,
};

/** The lanes, for the rest of the page. */
export interface LanesView {
  /** Forgets all results, and makes the native client's calls on the present path. */
  move(): void;
  /** Makes the native client's calls again. */
  callNative(): void;
}

/** Runs the two lanes. */
export function showLanes(path: Path, log: WireLog): LanesView {
  const direct = createLane("direct", "Without culvert", path);
  const culvert = createLane("culvert", "Through culvert", path);
  const bridge = ["culvert", `port ${path.info.culvert}`];
  const backend = ["Backend", `port ${path.info.backend.slice(path.info.backend.lastIndexOf(":") + 1)}`];
  const directNative = direct.addClient("Native gRPC client", "grpc-go, HTTP/2", [backend]);
  direct.addUnable("This page", "a browser", "A browser can’t send native gRPC: pages can’t read HTTP trailers.");
  const tunnel = culvert.addClient("Native gRPC client", "grpc-go, HTTP/2 in a WebSocket", [bridge, backend]);
  const page = culvert.addClient("This page", "WebSocket, gRPC-Web", [bridge, backend]);
  const status = find("lanes-status", HTMLElement);

  function show(client: Client, state: ClientState): void {
    client.show(state);
    const verdicts = [direct.judge(), culvert.judge()];
    // Screen readers hear of a result once, when the last call has one.
    if (verdicts.every((v) => v !== undefined) && status.textContent !== verdicts.join(" ")) {
      status.textContent = verdicts.join(" ");
    }
  }

  let native = new AbortController();
  async function call(lane: Lane, client: Client): Promise<void> {
    const { signal } = native;
    show(client, calling);
    try {
      const result = await path.callNative(lane, signal);
      if (!signal.aborted) {
        const hint = lane === "culvert" ? [h("p", {}, "Any gRPC client with a custom dialer can use this path.")] : [];
        const state = describeNative(result);
        show(client, { ...state, notes: [...state.notes, ...hint] });
      }
    } catch (cause) {
      if (!signal.aborted) {
        const failed: CallState = { tone: "bad", code: "UNKNOWN", note: "" };
        show(client, { calls: methods.map(() => failed), notes: [h("p", {}, String(cause))], refused: false });
      }
    }
  }

  function callNative(): void {
    native.abort();
    native = new AbortController();
    void call("direct", directNative);
    void call("culvert", tunnel);
  }

  const visit = createVisit(path);
  log.subscribe((c) => {
    visit.note(c);
    show(page, describePage(visit));
  });
  return {
    move() {
      visit.restart();
      show(page, describePage(visit));
      callNative();
    },
    callNative,
  };
}

/** This page's calls since the path changed. */
interface Visit {
  /** Records that a call began or changed. */
  note(call: WireCall): void;
  /** Returns the method's newest call that has a result or may still get one. */
  newest(method: string): WireCall | undefined;
  /** Forgets the calls, also running ones. */
  restart(): void;
}

// The wire log can't answer for the lanes: it drops old calls, and it also has
// the calls of an earlier visit to the same path.
function createVisit(path: Path): Visit {
  const kept = new Map<string, WireCall[]>(); // by method, newest first
  let lastId = 0;

  return {
    note(call) {
      const method = call.path.slice(call.path.lastIndexOf("/") + 1);
      const calls = kept.get(method) ?? [];
      if (call.id > lastId) {
        lastId = call.id; // the call begins now
        if (path.isProxied(call.origin) === path.proxied) {
          calls.unshift(call);
        }
      }
      // A call that was cancelled before its first message says nothing about
      // the path: the call before it counts instead.
      const useful = calls.filter((c) => !isCancelled(c) || countReceived(c) > 0);
      const ended = useful.findIndex((c) => c.durationMs !== undefined);
      kept.set(method, ended === -1 ? useful : useful.slice(0, ended + 1));
    },
    newest: (method) => kept.get(method)?.[0],
    restart: () => kept.clear(),
  };
}

function describeNative({ calls, seen }: NativeResult): ClientState {
  const errors = new Set(calls.filter((c) => !c.answered).map((c) => c.message));
  return {
    calls: methods.map(({ name }) => {
      const call = calls.find((c) => c.method === name);
      if (call === undefined) {
        return { tone: "bad", code: "UNKNOWN", note: "" };
      }
      return { tone: call.answered ? "ok" : "bad", code: call.code, note: call.answered ? count(call.messages) : "" };
    }),
    notes: [
      ...[...errors].map((message) => h("p", {}, "The client reports: ", h("code", {}, message))),
      ...seen.slice(0, 1).map((line) => h("p", {}, "The proxy saw: ", h("code", {}, line))),
    ],
    refused: seen.some((line) => line.endsWith("refused")),
  };
}

/** Describes this page's newest calls on the present path. */
function describePage(visit: Visit): ClientState {
  const calls = methods.map(({ name }): CallState => {
    const call = visit.newest(name);
    return call === undefined ? { tone: "busy", code: "CALLING", note: "" } : describeCall(call);
  });
  const note = h("p", {}, "Converse uses HTTP/2 in a WebSocket, Countdown and Reserve use gRPC-Web.");
  return { calls, notes: [note], refused: false };
}

function isCancelled(call: WireCall): boolean {
  return call.events.at(-1)?.kind === "cancel";
}

function countReceived(call: WireCall): number {
  return call.events.filter((e) => e.direction === "in" && e.kind === "message").length;
}

function describeCall(call: WireCall): CallState {
  const received = countReceived(call);
  if (call.durationMs === undefined && call.status === undefined) {
    return received > 0 ? { tone: "ok", code: "OPEN", note: count(received) } : { tone: "busy", code: "CALLING", note: "" };
  }
  if (isCancelled(call)) {
    return { tone: "ok", code: "CANCELLED", note: count(received) };
  }
  // The backend echoes the call's metadata: nothing else in the path can.
  const answered = call.trailers.some(([name]) => name.startsWith("x-demo-trailer-"));
  return { tone: answered ? "ok" : "bad", code: call.status?.name ?? "CUT", note: answered ? count(received) : "" };
}

function count(messages: number): string {
  if (messages === 0) {
    return "error with details";
  }
  return messages === 1 ? "1 message" : `${messages} messages`;
}

interface Client {
  state: ClientState;
  show(state: ClientState): void;
}

interface LaneView {
  /** Adds a client that calls the first hop, and so on, up to the backend. */
  addClient(name: string, protocol: string, hops: string[][]): Client;
  /** Adds a client that has no path in this lane. */
  addUnable(name: string, protocol: string, reason: string): void;
  /** Colours the lane. It returns the verdict if every call has a result. */
  judge(): string | undefined;
}

function createLane(id: Lane, title: string, path: Path): LaneView {
  const lane = find(`lane-${id}`, HTMLElement);
  const verdict = find(`verdict-${id}`, HTMLElement);
  const glance = find(`glance-${id}`, HTMLElement); // on small screens, where the lanes don't fit on the first one
  const list = find(`clients-${id}`, HTMLElement);
  const clients: Client[] = [];

  const box = (kind: string, name: string, small: string) =>
    h("span", { class: `hop ${kind}` }, h("b", {}, name), h("small", { class: "hop-note" }, small));
  const link = (tone: string) => h("span", { class: `link ${tone}` });

  /** Draws the path of a client: the client, the proxy and the hops behind it. */
  function drawRoute(name: string, protocol: string, hops: string[][], state: ClientState): Node[] {
    const tones = new Set(state.calls.map((c) => c.tone));
    const tone = tones.has("ok") ? "ok" : tones.has("busy") ? "busy" : "bad";
    const proxy = path.proxied
      ? box(`proxy ${state.refused ? "refuses" : ""}`, "Inspecting proxy", state.refused ? "refuses HTTP/2" : "HTTP/1.1 only")
      : box("proxy absent", "No proxy", "switched off");
    const behind = hops.flatMap(([hop = "", small = ""]) => [link(state.refused ? "unused" : tone), box("", hop, small)]);
    return [box("client", name, protocol), h("span", { class: "behind" }, link(tone), proxy, ...behind)];
  }

  return {
    addClient(name, protocol, hops) {
      const route = h("div", { class: "route" });
      const calls = h("ul", { class: "results" });
      const notes = h("div", { class: "notes" });
      const element = h("article", { class: "client-row", "aria-label": `${name}: ${protocol}` }, route, calls, notes);
      list.append(element);
      const client: Client = {
        state: calling,
        show(state) {
          client.state = state;
          element.dataset.tone = state.calls.map((c) => c.tone).join(" ");
          route.replaceChildren(...drawRoute(name, protocol, hops, state));
          calls.replaceChildren(
            ...methods.map((method, i) => {
              const { tone, code, note } = state.calls[i] ?? { tone: "busy", code: "", note: "" };
              return h(
                "li",
                { class: `result ${tone}`, "data-testid": "lane-call", "data-method": method.name, "data-tone": tone, "data-code": code },
                h("b", {}, method.name),
                h("small", { class: "result-kind" }, method.kind),
                badge(code, tone),
                h("small", { class: "result-note" }, note),
              );
            }),
          );
          notes.replaceChildren(...state.notes);
        },
      };
      clients.push(client);
      return client;
    },
    addUnable(name, protocol, reason) {
      list.append(
        h(
          "article",
          { class: "client-row unable", "aria-label": name },
          h("div", { class: "route" }, box("client", name, protocol), h("span", { class: "reason" }, reason)),
        ),
      );
    },
    judge() {
      const calls = clients.flatMap((c) => c.state.calls);
      const arrived = calls.filter((c) => c.tone === "ok").length;
      const state = calls.some((c) => c.tone === "bad") ? "bad" : calls.some((c) => c.tone === "busy") ? "busy" : "ok";
      lane.dataset.state = state;
      glance.dataset.state = state;
      const mark = { ok: "✓ ", bad: "✕ ", busy: "" }[state];
      const text = `${arrived} of ${calls.length} calls reach the backend`;
      verdict.textContent = `${mark}${text}`;
      glance.replaceChildren(h("b", {}, title), ` ${mark}${arrived} of ${calls.length} calls`);
      return calls.some((c) => c.tone === "busy") ? undefined : `${title}: ${text}.`;
    },
  };
}
