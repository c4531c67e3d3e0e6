import { deepEqual, env, equal, match, ok, rejects, seeded, show, test } from "./harness.js";

test("comparisons tell what differs", async () => {
  deepEqual({ a: [1n, new Uint8Array([1])], b: undefined }, { a: [1n, new Uint8Array([1])], b: undefined });
  for (const [got, want] of [
    [{ a: 1 }, { a: 2 }],
    [{ a: 1 }, {}],
    [new Uint8Array([1, 2]), new Uint8Array([1, 3])],
    [[1], { 0: 1 }],
    [null, {}],
  ]) {
    await rejects(() => deepEqual<unknown>(got, want, "the hint"), /^the hint: got /);
  }
  await rejects(() => equal(-0, 0), /want 0/);
  await rejects(() => ok(0), /got 0/);
  await rejects(() => match("a", /b/), /doesn't match/);
  await rejects(
    rejects(() => 1),
    /nothing was thrown/,
  );
  equal(show(new Uint8Array([255])), '"bytes ff (1)"');
});

test("seeded numbers are the same everywhere", () => {
  const next = seeded(1);
  deepEqual([next(1000), next(1000), next(1000)], [627, 2, 527]);
  ok(env.WebSocket);
});
