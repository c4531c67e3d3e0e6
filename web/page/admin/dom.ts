// Elements. Every text becomes a text node or an attribute, with characters that can't be seen made visible.

import { visible } from "./format.js";

type Props = Record<string, string | boolean | (() => void)>;

/** Makes an element: attributes and "on…" listeners, then its children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else if (value !== false) {
      element.setAttribute(name, value === true ? "" : visible(value));
    }
  }
  element.append(...children.map((c) => (typeof c === "string" ? visible(c) : c)));
  return element;
}

/** The element of index.html with this id. */
export function find<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) {
    throw new Error(`index.html has no ${id}`);
  }
  return element as T;
}

export type Tone = "ok" | "bad" | "warn" | "idle";

/** A piece of text. It stands on a line of its own if it is soft. */
export interface Piece {
  text: string;
  soft?: boolean;
  badge?: Tone;
  /** The page's own section: "#calls?backend=b". Or "config". */
  to?: string;
  title?: string;
  press?: () => void;
  /** A button's name for those who don't see its row. */
  label?: string;
}

export type Part = string | Piece;

const shown = new WeakMap<Element, string>();

/** Shows the parts in an element. It touches nothing if they are those that it shows already. */
export function show(element: Element, parts: Part | Part[]): void {
  const key = JSON.stringify(parts);
  if (shown.get(element) === key) {
    return;
  }
  shown.set(element, key);
  const all = Array.isArray(parts) ? parts : [parts];
  element.replaceChildren(...all.filter((p) => p !== "").map((p) => (typeof p === "string" ? visible(p) : node(p))));
}

function node(p: Piece): Node {
  if (p.press) {
    return h("button", { type: "button", class: "small", onclick: p.press, ...(p.label ? { "aria-label": p.label } : {}) }, p.text);
  }
  const title: Props = p.title ? { title: p.title } : {};
  const classes = p.badge ? `badge ${p.badge}` : p.soft ? "soft" : "";
  const kind: Props = classes ? { class: classes } : {};
  return p.to ? h("a", { href: p.to, ...title, ...kind }, p.text) : h("span", { ...title, ...kind }, p.text);
}
