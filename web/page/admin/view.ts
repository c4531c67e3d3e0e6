// What the sections of the page have in common.

import type { Call, Status } from "./api.js";
import { h, type Part, type Piece, show } from "./dom.js";
import { ago, clock } from "./format.js";

/** A section. It lives as long as the page, and is asked while a person sees it. */
export interface View {
  title: string;
  /** In ms, how often it looks. */
  every: number;
  element: HTMLElement;
  /** Takes the parameters behind "#name?", before it looks. */
  open?(parameters: URLSearchParams): void;
  /** Asks for its data and shows them. culvert's status is given. */
  look(signal: AbortSignal, status: Status): Promise<void>;
}

export interface Facts {
  element: HTMLElement;
  update(facts: [name: string, value: Part | Part[]][]): void;
}

/** Makes a list of names and values. */
export function facts(kind = ""): Facts {
  const element = h("dl", { class: `facts ${kind}` });
  const values = new Map<string, { box: HTMLElement; value: HTMLElement }>();
  return {
    element,
    update(list) {
      for (const [name, parts] of list) {
        let entry = values.get(name);
        if (entry === undefined) {
          const value = h("dd");
          entry = { box: h("div", {}, h("dt", {}, name), value), value };
          values.set(name, entry);
          element.append(entry.box);
        }
        show(entry.value, parts);
      }
      const names = new Set(list.map(([name]) => name));
      for (const [name, { box }] of values) {
        box.hidden = !names.has(name);
      }
    },
  };
}

/** A link to a section with these parameters. Empty ones are left out. */
export function link(section: string, parameters: Record<string, string>): string {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "")).toString();
  return `#${section}${query ? `?${query}` : ""}`;
}

/** Who calls: the identity, the certificate's name, and the address. */
export function who(c: Pick<Call, "peer" | "client" | "identity" | "transport" | "listener">): Part[] {
  return [...[c.identity, c.client].filter(Boolean), c.peer, [c.transport, c.listener].filter(Boolean).join(" at ") || ""].map(
    (text, i): Part => (i === 0 ? text : { text, soft: true }),
  );
}

/** The route and the backend of a call. */
export function way(route: string, backend: string): Part[] {
  if (backend === "") {
    return [route || "–"];
  }
  return [{ text: backend, to: "#backends" }, ...(route !== "" && route !== backend ? [{ text: `route ${route}`, soft: true }] : [])];
}

/** When something was, as an age, with the time as a hint. */
export const when = (time: string, at: string): Piece => ({ text: ago(time, at), title: time });

/** When something was, as a time, with the age below it. */
export const moment = (time: string, at: string): Part[] => [
  { text: clock(time, at), title: time },
  { text: ago(time, at), soft: true },
];
