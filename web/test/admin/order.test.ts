// The order of rows in the page of the admin address, and how often the page asks.

import { arrange, distinct } from "../../page/admin/order.js";
import { pause, poll, type Trouble } from "../../page/admin/poll.js";
import { deepEqual, equal, test } from "../harness.js";

/** A list of elements that counts their moves. */
function list(names: string) {
  const items: Item[] = [];
  interface Item {
    name: string;
    moves: number;
    nextElementSibling: unknown;
    previousElementSibling: unknown;
    after(e: unknown): void;
    before(e: unknown): void;
  }
  const insert = (e: Item, beside: Item, behind: number) => {
    e.moves++;
    if (items.includes(e)) {
      items.splice(items.indexOf(e), 1);
    }
    items.splice(items.indexOf(beside) + behind, 0, e);
  };
  const make = (name: string): Item => ({
    name,
    moves: 0,
    get nextElementSibling() {
      return items[items.indexOf(this) + 1];
    },
    get previousElementSibling() {
      return items[items.indexOf(this) - 1];
    },
    after(e) {
      insert(e as Item, this, 1);
    },
    before(e) {
      insert(e as Item, this, 0);
    },
  });
  items.push(...[...names].map(make));
  return { items, make };
}

test("rows come into order without a move of the pinned one", () => {
  for (const [from, to] of [
    ["abc", "abc"],
    ["abc", "cba"],
    ["abcdef", "fbxdya"],
    ["a", "xyaz"],
    ["abcdefgh", "hgfedcba"],
  ] as const) {
    for (const pinned of [...to].filter((n) => from.includes(n))) {
      const { items, make } = list([...from].filter((n) => to.includes(n)).join(""));
      const wanted = [...to].map((n) => items.find((i) => i.name === n) ?? make(n));
      const pin = wanted.find((i) => i.name === pinned);
      if (pin === undefined) {
        throw new Error("not there");
      }
      arrange(wanted, pin);
      equal(items.map((i) => i.name).join(""), to);
      equal(pin.moves, 0);
      if (from === to) {
        equal(items.filter((i) => i.moves > 0).length, 0);
      }
    }
  }
});

test("equal keys are told apart", () => {
  deepEqual(distinct(["a", "b", "a", "a"]), ["a", "b", "a 1", "a 2"]);
});

test("the page asks more seldom without an answer", () => {
  deepEqual(
    [0, 1, 2, 3, 4, 9, 99].map((n) => pause(2000, n)),
    [2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000],
  );
});

test("a poll tells of troubles, asks at once if told so, and ends", async () => {
  const told: (Trouble | undefined)[] = [];
  let asked = 0;
  let signal: AbortSignal | undefined;
  let next = () => {};
  const polling = poll(
    3_600_000, // only now() and stop() end a pause
    async (s) => {
      signal = s;
      if (++asked === 1) {
        throw new Error("gone");
      }
    },
    (trouble) => {
      told.push(trouble);
      next();
    },
  );
  const tells = () =>
    new Promise<void>((resolve) => {
      next = resolve;
    });
  await tells();
  const second = tells();
  polling.now();
  await second;
  deepEqual([told.map((t) => t && [String(t.error), t.wait]), asked, signal?.aborted], [[["Error: gone", 3_600_000], undefined], 2, false]);
  polling.stop();
  polling.stop();
  polling.now();
  deepEqual([asked, signal?.aborted], [2, true]);
});
