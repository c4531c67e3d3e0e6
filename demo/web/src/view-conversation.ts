import { type Conversation, openConversation } from "./conversation.ts";
import { codeName } from "./describe.ts";
import { badge, find, h } from "./dom.ts";
import { demoMetadata } from "./metadata.ts";
import type { Path } from "./path.ts";
import { runTool, toolNames } from "./tools.ts";
import type { WireView } from "./view-wire.ts";

const suggestions = [
  "What time is it, and how big is my window?",
  "Which languages do I speak?",
  "Are you there?",
  "Tell me about culverts",
];

/** The conversation, for the rest of the page. */
export interface ConversationView {
  /** Asks a question, on a new call if none is open. */
  ask(text: string): void;
  /** Stops the answer, ends the call, and continues over the present path. */
  move(): void;
}

/** Runs the card "Converse". */
export function showConversation(path: Path, wire: WireView): ConversationView {
  const chat = find("chat-log", HTMLElement);
  const input = find("chat-input", HTMLInputElement);
  chat.tabIndex = 0; // for the keyboard to scroll it
  const stop = find("chat-stop", HTMLButtonElement);
  const end = find("chat-end", HTMLButtonElement);
  const status = find("chat-status", HTMLElement);
  let latest: Conversation | undefined; // the one that the card shows
  let open = false; // latest accepts turns
  let answering = false;
  let bubble: HTMLElement | undefined; // of the answer that is arriving
  let moving = Promise.resolve();
  // A question with its answer. The question stays in view while its answer scrolls.
  let exchange = chat;

  function add(role: "user" | "assistant" | "tool" | "note", ...content: (Node | string)[]): HTMLElement {
    const element = h("div", { class: `said ${role}`, "data-testid": "chat-message", "data-role": role }, ...content);
    if (role === "user") {
      exchange = h("div", { class: "exchange" }, h("div", { class: "question" }, element));
      chat.append(exchange);
    } else {
      (role === "note" ? chat : exchange).append(element);
    }
    scroll();
    return element;
  }

  function scroll(): void {
    chat.scrollTop = chat.scrollHeight;
  }

  function setAnswering(now: boolean): void {
    answering = now;
    stop.disabled = !now;
  }

  function endBubble(): void {
    bubble?.classList.remove("speaking");
    bubble = undefined;
  }

  function setOpen(now: boolean): void {
    open = now;
    end.disabled = !now;
  }

  function start(): Conversation {
    wire.showNext();
    const conversation = openConversation(path.origin(), demoMetadata());
    latest = conversation;
    setOpen(true);
    status.replaceChildren(badge("OPEN", "ok"));
    void listen(conversation);
    return conversation;
  }

  async function listen(conversation: Conversation): Promise<void> {
    for await (const { event } of conversation.events) {
      if (event.case === "token") {
        bubble ??= add("assistant");
        bubble.classList.add("speaking");
        bubble.append(event.value.text);
        scroll();
      } else if (event.case === "toolCall" && open) {
        const outcome = runTool(event.value.name);
        conversation.answer(event.value.callId, outcome);
        endBubble();
        add("tool", h("code", {}, event.value.name), ` → ${outcome.value}`);
      } else if (event.case === "end") {
        if (event.value.interrupted) {
          (bubble ?? add("assistant")).append(h("small", {}, " (stopped)"));
        } else {
          setAnswering(false);
        }
        endBubble();
      }
    }
    endBubble();
    const ending = await conversation.ended;
    if (conversation === latest) {
      setOpen(false);
      setAnswering(false);
      status.replaceChildren(badge(codeName(ending.code), ending.code === 0 ? "ok" : "bad"), ` ${ending.message}`);
    }
  }

  function ask(text: string): void {
    const conversation = open && latest !== undefined ? latest : start();
    wire.showLatest("grpc-websockets");
    add("user", text);
    setAnswering(true);
    conversation.prompt(text, toolNames); // stops a running answer
  }

  function interrupt(): void {
    setAnswering(false);
    latest?.interrupt();
  }

  function halfClose(): void {
    setOpen(false);
    latest?.halfClose();
  }

  async function followPath(origin: string): Promise<void> {
    if (answering) {
      interrupt();
    }
    if (open) {
      halfClose();
      await latest?.ended;
    }
    if (origin === path.origin()) {
      add("note", path.proxied ? "now via the proxy" : "now without the proxy", `, port ${new URL(origin).port}`);
      ask("Are you there?");
    }
  }

  find("chat-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text !== "") {
      input.value = "";
      ask(text);
    }
  });
  stop.addEventListener("click", interrupt);
  end.addEventListener("click", () => {
    if (answering) {
      interrupt();
    }
    halfClose();
  });
  find("suggestions", HTMLElement).append(
    ...suggestions.map((text) =>
      h("button", { type: "button", class: "chip", "data-testid": "suggestion", onclick: () => ask(text) }, text),
    ),
  );
  find("chat-send", HTMLButtonElement).disabled = false;
  return {
    ask,
    move() {
      const origin = path.origin();
      moving = moving.then(() => followPath(origin));
    },
  };
}
