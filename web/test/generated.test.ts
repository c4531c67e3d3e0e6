// Generated calls, each through culvert and on a server without it: the same must come of both.

import { ConnectError } from "@connectrpc/connect";
import { type Probed, probed, type Reply, type Script, scripted } from "./client.js";
import { fnv } from "./h2/server.js";
import { deepEqual, env, ok, seeded, test } from "./harness.js";

type Dice = (n: number) => number;
const pick = <T>(dice: Dice, ...of: T[]): T => of[dice(of.length)] as T;

const many = <T>(dice: Dice, most: number, make: (i: number) => T): T[] => Array.from({ length: dice(most + 1) }, (_, i) => make(i));

const size = (dice: Dice) => pick(dice, 0, 1, 1000, 16_384, dice(pick(dice, 5000, 50_000, 300_000)));

/** Values as gRPC allows them: printable ASCII, and bytes of any kind. */
const fields = (dice: Dice) =>
  many(dice, 4, () =>
    dice(2)
      ? { name: pick(dice, "x-a", "x-b"), value: `v${many(dice, 60, () => String.fromCharCode(0x21 + dice(94))).join("")}` }
      : { name: "x-c-bin", bytes: btoa(String.fromCharCode(...many(dice, 60, () => dice(256)))) },
  );

function generate(dice: Dice) {
  const script: Script = {
    header: fields(dice),
    header_early: !dice(3),
    replies_first: !dice(3),
    echo: !dice(3),
    replies: dice(pick(dice, 2, 10, 30)),
    reply_bytes: size(dice),
    echo_metadata: !dice(4),
    empty_replies: !dice(8),
    trailer: fields(dice),
    code: dice(2) ? 0 : dice(17),
    message: pick(dice, "", "plain", "naïve 100 % 🚀\n"),
    details: many(dice, 2, (i) => `REASON_${i}`),
    rich: !dice(6),
  };
  const requests = many(dice, pick(dice, 1, 5, 12), (i) => ({
    sequence: BigInt(i),
    text: `request ${i}`,
    payload: Uint8Array.from({ length: size(dice) }, (_, j) => j * 7 + i),
  }));
  return { kind: pick(dice, "unary", "serverStream", "clientStream", "bidi"), script, requests, gzip: !dice(4), slow: !dice(3) } as const;
}

/** Those of {@link fields}: culvert adds others. */
const own = /^x-[abc]\b/;
const pairs = (headers: Headers) => [...headers].filter(([name]) => own.test(name));

const digest = ({ sequence, text, payload, metadata, received }: Reply) => ({
  sequence,
  text,
  size: payload.length,
  sum: fnv(payload),
  metadata: metadata.filter(({ name }) => own.test(name)).map(({ name, values }) => [name, ...values.map(fnv)]),
  received,
});

/** Makes the call, and returns all that its caller sees. */
async function make({ client }: Probed, { kind, script, requests, slow }: ReturnType<typeof generate>) {
  const seen: { header?: [string, string][]; trailer?: [string, string][]; error?: unknown } = {};
  const call = scripted(script, {
    headers: { "x-a": "of the request" },
    onHeader: (headers) => {
      seen.header = pairs(headers);
    },
    onTrailer: (headers) => {
      seen.trailer = pairs(headers);
    },
  });
  async function* upload() {
    yield* requests;
  }
  const replies: unknown[] = [];
  const first = requests[0] ?? {};
  try {
    if (kind === "unary" || kind === "clientStream") {
      replies.push(digest(await (kind === "unary" ? client.unary(first, call.options) : client.clientStream(upload(), call.options))));
    } else {
      for await (const reply of kind === "bidi" ? client.bidi(upload(), call.options) : client.serverStream(first, call.options)) {
        replies.push(digest(reply));
        if (slow) {
          await new Promise((resolve) => setTimeout(resolve));
        }
      }
    }
  } catch (cause) {
    ok(cause instanceof ConnectError, `the call failed with ${cause}`);
    seen.error = { code: cause.code, message: cause.rawMessage, metadata: pairs(cause.metadata), details: cause.details };
  }
  if (!replies.length) {
    // A server may send the header of such an answer in the trailers ("Trailers-Only").
    const { header = [], trailer = [], error } = seen;
    return { fields: [...header, ...trailer].sort(), error };
  }
  return { ...seen, replies };
}

test("calls come out the same through culvert and without it", async () => {
  for (let seed = 0; seed < (env.long ? 15 : 4); seed++) {
    const { gzip } = generate(seeded(seed * 1000));
    await probed({ baseUrl: env.servers.culvert, gzip }, (culvert) =>
      probed({ baseUrl: env.servers.plain, gzip }, async (plain) => {
        const calls = Array.from({ length: 12 }, async (_, i) => {
          const call = generate(seeded(seed * 1000 + i));
          const [through, without] = await Promise.all([make(culvert, call), make(plain, call)]);
          deepEqual(through, without, `seed ${seed * 1000 + i}, ${call.kind}`);
        });
        for (const { reason } of (await Promise.allSettled(calls)).filter((r) => r.status === "rejected")) {
          throw reason;
        }
      }),
    );
  }
});
