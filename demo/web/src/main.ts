import { find, h } from "./dom.ts";
import { loadPath } from "./path.ts";
import { tapFetch } from "./tap-fetch.ts";
import { tapWebSockets } from "./tap-websocket.ts";
import { showCountdown, showReserve } from "./view-calls.ts";
import { showConversation } from "./view-conversation.ts";
import { showPath } from "./view-path.ts";
import { showWire } from "./view-wire.ts";
import { createWireLog } from "./wire-log.ts";

async function main(): Promise<void> {
  const log = createWireLog();
  tapWebSockets(log);
  const path = await loadPath();
  find("version", HTMLElement).textContent = `culvert ${path.info.version}`;

  const wire = showWire(log);
  const conversation = showConversation(path, wire);
  const fetch = tapFetch(log);
  const countdown = showCountdown(path, fetch, wire);
  const reserve = showReserve(path, fetch, wire);
  showPath(path, log, conversation);

  // A first round by itself, so that there is something to see.
  conversation.ask("What time is it, and how big is my window?");
  countdown();
  reserve();
}

main().catch((cause: unknown) => {
  document.querySelector("main")?.prepend(h("p", { class: "card failed", role: "alert" }, `The demo doesn’t answer: ${cause}`));
});
