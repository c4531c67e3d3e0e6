type Child = Node | string | undefined;
type Props = Record<string, string | boolean | ((event: Event) => void)>;

/** Makes an element: attributes and "on…" listeners, then its children. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Props = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") {
      element.addEventListener(name.slice(2), value);
    } else if (value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** The element of index.html with this data-testid. */
export function find<T extends HTMLElement>(testId: string, type: new () => T): T {
  const element = document.querySelector(`[data-testid="${testId}"]`);
  if (!(element instanceof type)) {
    throw new Error(`index.html has no ${type.name} "${testId}"`);
  }
  return element;
}

/** "1.2 KiB" and the like. */
export function formatBytes(n: number): string {
  return n < 1024 ? `${n} B` : `${(n / 1024).toFixed(1)} KiB`;
}

/** "< 1 ms", "340 ms" or "12.0 s". */
export function formatDuration(ms: number): string {
  if (ms < 1) {
    return "< 1 ms";
  }
  return ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** A coloured label for how something ended. */
export function badge(name: string, tone: "ok" | "bad" | "busy" | "idle"): HTMLElement {
  return h("span", { class: `badge ${tone}` }, name);
}
