import { type CulvertTransport, type CulvertTransportOptions, createCulvertTransport } from "@culvert/web";
import { find, h } from "./dom.ts";
import { loadPath } from "./path.ts";
import { tapFetch } from "./tap-fetch.ts";
import { tapH2ts } from "./tap-h2ts.ts";
import { showCountdown, showReserve } from "./view-calls.ts";
import { showConversation } from "./view-conversation.ts";
import { showLanes } from "./view-lanes.ts";
import { showNext } from "./view-next.ts";
import { showWire } from "./view-wire.ts";
import { createWireLog } from "./wire-log.ts";

async function main(): Promise<void> {
  showNext();
  const log = createWireLog();
  const path = await loadPath();
  find("version", HTMLElement).textContent = `culvert ${path.info.version}`;

  const wire = showWire(log, path);
  const conversation = showConversation(path, createTransports(tapH2ts(log)), wire);
  const fetch = tapFetch(log);
  const countdown = showCountdown(path, fetch, wire);
  const reserve = showReserve(path, fetch, wire);
  const lanes = showLanes(path, log);

  const toggle = find("path-switch", HTMLInputElement);
  const retry = find("native-retry", HTMLButtonElement);
  function followSwitch(): void {
    path.proxied = toggle.checked;
    find("stage", HTMLElement).classList.toggle("proxied", path.proxied);
    find("switch-hint", HTMLElement).textContent = path.proxied
      ? "An inspecting proxy reads every request. This proxy speaks only HTTP/1.1. Switch the proxy off, and all calls run again without it."
      : "No proxy: native gRPC reaches the backend. Switch the proxy on, and all calls run again through it.";
    lanes.move();
    countdown();
    reserve();
  }
  toggle.addEventListener("change", () => {
    followSwitch();
    conversation.move();
  });
  retry.addEventListener("click", lanes.callNative);
  toggle.disabled = false;
  retry.disabled = false;

  // The first calls run without a click.
  toggle.checked = path.proxied; // a browser may restore it after a reload
  followSwitch();
  conversation.ask("What time is it, and how big is my window?");
}

/** Returns a function that makes one transport for each origin. */
function createTransports(tap: Partial<CulvertTransportOptions>): (origin: string) => CulvertTransport {
  const transports = new Map<string, CulvertTransport>();
  return (baseUrl) => {
    const transport = transports.get(baseUrl) ?? createCulvertTransport({ baseUrl, ...tap });
    transports.set(baseUrl, transport);
    return transport;
  };
}

main().catch((cause: unknown) => {
  document.querySelector("main")?.prepend(h("p", { class: "card failed", role: "alert" }, `The demo doesn’t answer: ${cause}`));
});
