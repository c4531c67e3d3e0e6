import type { CulvertTransport } from "@culvert/web";
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

/** A conversation in the card. */
interface Talk extends Conversation {
  open: boolean; // accepts turns
  exchange: HTMLElement; // the last question with its answer
  bubble: HTMLElement | undefined; // of the answer that is arriving
}

/** Runs the card "Converse". */
export function showConversation(path: Path, transport: (origin: string) => CulvertTransport, wire: WireView): ConversationView {
  const chat = find("chat-log", HTMLElement);
  const input = find("chat-input", HTMLInputElement);
  chat.tabIndex = 0; // for the keyboard to scroll it
  const stop = find("chat-stop", HTMLButtonElement);
  const end = find("chat-end", HTMLButtonElement);
  const status = find("chat-status", HTMLElement);
  let latest: Talk | undefined; // the one for the next question
  let answering = false; // latest does
  let moving = Promise.resolve();

  function add(to: HTMLElement, role: "user" | "assistant" | "tool" | "note", ...content: (Node | string)[]): HTMLElement {
    const element = h("div", { class: `said ${role}`, "data-testid": "chat-message", "data-role": role }, ...content);
    to.append(element);
    scroll();
    return element;
  }

  function prompt(talk: Talk, text: string): void {
    // The question stays in view while its answer scrolls.
    const question = h("div", { class: "question" });
    talk.exchange = h("div", { class: "exchange" }, question);
    chat.append(talk.exchange);
    add(question, "user", text);
    talk.prompt(text, toolNames); // stops a running answer
  }

  function scroll(): void {
    chat.scrollTop = chat.scrollHeight;
  }

  function setAnswering(now: boolean): void {
    answering = now;
    stop.disabled = !now;
  }

  function endBubble(talk: Talk): void {
    talk.bubble?.classList.remove("speaking");
    talk.bubble = undefined;
  }

  function close(talk: Talk): void {
    talk.open = false;
    if (talk === latest) {
      end.disabled = true;
    }
  }

  function openTalk(): Talk {
    return { ...openConversation(transport(path.origin()), demoMetadata()), open: true, exchange: chat, bubble: undefined };
  }

  function start(): Talk {
    wire.showNext();
    latest = openTalk();
    end.disabled = false;
    status.replaceChildren(badge("OPEN", "ok"));
    void listen(latest);
    return latest;
  }

  async function listen(talk: Talk): Promise<void> {
    for await (const { event } of talk.events) {
      if (event.case === "token") {
        talk.bubble ??= add(talk.exchange, "assistant");
        talk.bubble.classList.add("speaking");
        talk.bubble.append(event.value.text);
        scroll();
      } else if (event.case === "toolCall" && talk.open) {
        const outcome = runTool(event.value.name);
        talk.answer(event.value.callId, outcome);
        endBubble(talk);
        add(talk.exchange, "tool", h("code", {}, event.value.name), ` → ${outcome.value}`);
      } else if (event.case === "end") {
        if (event.value.interrupted) {
          (talk.bubble ?? add(talk.exchange, "assistant")).append(h("small", {}, " (stopped)"));
        } else if (talk === latest) {
          setAnswering(false);
        } else {
          halfClose(talk);
        }
        endBubble(talk);
      }
    }
    endBubble(talk);
    const ending = await talk.ended;
    if (talk === latest) {
      close(talk);
      setAnswering(false);
      status.replaceChildren(badge(codeName(ending.code), ending.code === 0 ? "ok" : "bad"), ` ${ending.message}`);
    }
  }

  function ask(text: string): void {
    const talk = latest?.open ? latest : start();
    wire.showLatest("h2ts");
    setAnswering(true);
    prompt(talk, text);
  }

  /** Opens a stream for each question, at the same time. Each ends after its answer. */
  function askAll(): void {
    for (const text of suggestions) {
      const talk = openTalk();
      void listen(talk);
      prompt(talk, text);
    }
  }

  function interrupt(): void {
    setAnswering(false);
    latest?.interrupt();
  }

  function halfClose(talk: Talk): void {
    close(talk);
    talk.halfClose();
  }

  async function followPath(origin: string): Promise<void> {
    if (answering) {
      interrupt();
    }
    if (latest?.open) {
      halfClose(latest);
      await latest.ended;
    }
    if (origin === path.origin()) {
      add(chat, "note", path.proxied ? "now via the proxy" : "now without the proxy", `, port ${new URL(origin).port}`);
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
    if (latest !== undefined) {
      halfClose(latest);
    }
  });
  find("suggestions", HTMLElement).append(
    ...suggestions.map((text) =>
      h("button", { type: "button", class: "chip", "data-testid": "suggestion", onclick: () => ask(text) }, text),
    ),
    h("button", { type: "button", class: "chip", "data-testid": "chat-all", onclick: askAll }, "All four at once, a stream each"),
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
