import { badge, find, formatBytes, formatDuration, h } from "./dom.ts";
import type { NativeResult, Path } from "./path.ts";
import type { ConversationView } from "./view-conversation.ts";
import type { WireLog } from "./wire-log.ts";

/** Runs the card "The path": the switch and what it does to either client. */
export function showPath(path: Path, log: WireLog, conversation: ConversationView): void {
  const toggle = find("path-switch", HTMLInputElement);
  const hops = find("hops", HTMLElement);
  const retry = find("native-retry", HTMLButtonElement);
  const { info } = path;
  const showProxy = () => {
    hops.classList.toggle("proxied", path.proxied);
    find("hop-proxy", HTMLElement).textContent = path.proxied ? `HTTP/1.1 only · :${info.proxy}` : "not in the path";
  };
  showProxy();
  find("hop-culvert", HTMLElement).textContent = `one port · :${info.culvert}`;
  find("hop-backend", HTMLElement).textContent = `grpc-go · ${info.backend}`;

  let native = new AbortController();
  async function callNative(): Promise<void> {
    native.abort();
    const mine = new AbortController();
    native = mine;
    showNative(undefined);
    try {
      showNative(await path.callNative(mine.signal));
    } catch (cause) {
      if (!mine.signal.aborted) {
        showNative({ address: "", code: "UNKNOWN", message: String(cause), durationMs: 0, tokens: 0, toolCalls: 0, seen: [] });
      }
    }
  }

  toggle.addEventListener("change", () => {
    path.proxied = toggle.checked;
    showProxy();
    void callNative();
    conversation.move();
  });
  retry.addEventListener("click", () => void callNative());
  log.subscribe(() => showBridged(path, log));
  toggle.disabled = false;
  retry.disabled = false;
  void callNative();
}

function showNative(result: NativeResult | undefined): void {
  const status = find("native-status", HTMLElement);
  const text = find("native-result", HTMLElement);
  const seen = find("native-seen", HTMLElement);
  if (result === undefined) {
    status.replaceChildren(badge("CALLING", "busy"));
    text.textContent = "grpc-go, in the demo’s process, is calling.";
    seen.replaceChildren();
    return;
  }
  const ok = result.code === "OK";
  status.replaceChildren(badge(result.code, ok ? "ok" : "bad"));
  text.textContent = ok
    ? `The same conversation by grpc-go to ${result.address}: ${result.tokens} tokens and ${result.toolCalls} tool call in ${formatDuration(result.durationMs)}.`
    : `grpc-go to ${result.address} gave up after ${formatDuration(result.durationMs)}: ${result.message}`;
  seen.replaceChildren(
    ...(result.seen.length === 0 ? [] : [h("span", {}, "The proxy saw: "), ...result.seen.map((line) => h("code", {}, line))]),
  );
}

/** Says how the newest conversation fares. */
function showBridged(path: Path, log: WireLog): void {
  const call = log.calls.find((c) => c.transport === "grpc-websockets");
  if (call === undefined) {
    return;
  }
  const running = call.durationMs === undefined;
  const name = running ? "OPEN" : (call.status?.name ?? "CUT");
  find("bridged-status", HTMLElement).replaceChildren(badge(name, running || call.status?.code === 0 ? "ok" : "bad"));
  const count = (direction: "out" | "in") => {
    const n = call.events.filter((e) => e.direction === direction && e.kind === "message").length;
    return `${n} ${n === 1 ? "message" : "messages"} ${direction}`;
  };
  const via = new URL(call.origin).port === path.info.proxy ? "through the proxy to" : "directly to";
  find("bridged-result", HTMLElement).textContent =
    `${via} ${new URL(call.origin).host}: ${count("out")} (${formatBytes(call.bytesOut)}), ${count("in")} (${formatBytes(call.bytesIn)}).`.replace(
      /^./,
      (c) => c.toUpperCase(),
    );
}
