// Tables whose rows stay the same elements while they change and move, so that the focus and a selected text stay.

import { h, type Part, show } from "./dom.js";
import { arrange, distinct } from "./order.js";

export interface Column<Row> {
  head: string;
  /** A number, which is on the right. */
  number?: boolean;
  /** A short text that isn't broken, such as a time. */
  whole?: boolean;
  cell: (row: Row, at: string) => Part | Part[];
}

export interface Table<Row> {
  element: HTMLElement;
  /** Shows the rows. at is when culvert looked. */
  update(rows: Row[], at: string): void;
}

let made = 0;

const kind = <Row>(c: Column<Row>) => (c.number ? "number" : c.whole ? "whole" : "");

/** Makes a table. none is what it shows without rows. */
export function table<Row>(title: string, none: string, key: (row: Row) => string, columns: Column<Row>[]): Table<Row> {
  const body = h("tbody");
  const head = h("tr", {}, ...columns.map((c) => h("th", { scope: "col", class: kind(c) }, c.head)));
  // On narrow screens CSS makes a card of each row, so the roles are said here.
  const heading = h("h2", { id: `table-${++made}`, tabindex: "-1" }, title);
  const element = h("table", { role: "table", "aria-labelledby": heading.id }, h("thead", {}, head), body);
  const empty = h("p", { class: "none" }, none);
  const rows = new Map<string, HTMLTableRowElement>();

  function make() {
    const cells = columns.map((c) => h("td", { role: "cell", "data-head": c.head, class: kind(c) }));
    return h("tr", { role: "row" }, ...cells);
  }

  function update(list: Row[], at: string) {
    const keys = distinct(list.map(key));
    const wanted = new Set(keys);
    const focused = document.activeElement?.closest("tr") ?? null;
    const lost = focused !== null && focused.parentElement === body;
    const place = lost ? [...body.children].indexOf(focused) : 0;
    for (const [k, row] of rows) {
      if (!wanted.has(k)) {
        row.remove();
        rows.delete(k);
      }
    }
    const elements = list.map((row, i) => {
      const k = keys[i] as string;
      const element = rows.get(k) ?? make();
      rows.set(k, element);
      columns.forEach((c, i) => {
        show(element.children[i] as Element, c.cell(row, at));
      });
      return element;
    });
    const first = elements[0];
    if (first !== undefined) {
      const pinned = elements.find((e) => e === focused) ?? elements.find((e) => e.parentElement === body) ?? first;
      if (pinned.parentElement !== body) {
        body.append(pinned);
      }
      arrange(elements, pinned);
    }
    element.classList.toggle("empty", first === undefined);
    empty.hidden = first !== undefined;
    if (lost && !focused.isConnected) {
      // The row is gone: the keyboard goes on at the row that has its place.
      const near = elements[Math.min(place, elements.length - 1)]?.querySelector<HTMLElement>("button, a");
      (near ?? heading).focus();
    }
  }

  return { element: h("div", { class: "table" }, heading, element, empty), update };
}
