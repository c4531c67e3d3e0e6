// Puts elements in order with few moves. Pure: it sees a list as elements with neighbours.

/** What this needs of an element. */
interface Sibling {
  readonly nextElementSibling: unknown;
  readonly previousElementSibling: unknown;
  after(e: unknown): void;
  before(e: unknown): void;
}

/**
 * Puts the elements in this order, which all are in one parent, or new. pinned, one of them, never moves: an element that
 * moves loses the focus.
 */
export function arrange<E extends Sibling>(elements: E[], pinned: E): void {
  const at = elements.indexOf(pinned);
  let next = pinned;
  for (const e of elements.slice(0, at).reverse()) {
    if (next.previousElementSibling !== e) {
      next.before(e);
    }
    next = e;
  }
  let previous = pinned;
  for (const e of elements.slice(at + 1)) {
    if (previous.nextElementSibling !== e) {
      previous.after(e);
    }
    previous = e;
  }
}

/** The key of each, with a number behind those that came before: clients choose ids. */
export function distinct(keys: string[]): string[] {
  const seen = new Map<string, number>();
  return keys.map((key) => {
    const n = seen.get(key) ?? 0;
    seen.set(key, n + 1);
    return n === 0 ? key : `${key} ${n}`;
  });
}
