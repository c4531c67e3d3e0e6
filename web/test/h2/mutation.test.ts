import { H2Error, type Stream } from "../../src/h2/index.js";
import { equal, ok, seeded, test } from "../harness.js";
import {
  answer,
  CONTINUATION,
  data,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  goaway,
  HEADERS,
  headers,
  join,
  literals,
  PADDED,
  PING,
  pair,
  request,
  rest,
  rst,
  settings,
  unhex,
  windowUpdate,
} from "./server.js";

/** What a server could send, right and wrong, for streams 1 to 9. */
function sequence(next: (n: number) => number): Uint8Array[] {
  const frames = [settings({ 3: 100, 4: next(100_000) })];
  const count = next(40);
  for (let i = 0; i < count; i++) {
    const id = 1 + 2 * next(5);
    const end = next(6) ? 0 : END_STREAM;
    const body = new Uint8Array(next(300)).fill(next(256));
    const all = [
      () => headers(id, answer, end),
      () => headers(id, answer, end),
      () => data(id, body, end),
      () => data(id, body, end),
      () => data(id, join([next(40)], body), PADDED | end),
      () => headers(id, [["grpc-status", "0"]], END_STREAM),
      () => headers(id, [[":status", "103"]]),
      () => frame(HEADERS, END_HEADERS | end, id, unhex("88be4001610162")),
      () => frame(HEADERS, end, id, literals(answer)),
      () => frame(CONTINUATION, END_HEADERS, id, unhex("4001610162be")),
      () => windowUpdate(next(2) ? id : 0, next(100_000)),
      () => settings({ [next(7)]: next(70_000) }),
      () => frame(PING, next(2), 0, new Uint8Array(8)),
      () => rst(id, next(14)),
      () => goaway(next(12), next(14), "bye"),
      () => frame(next(256), next(256), next(12), body),
    ];
    frames.push(all[next(all.length)]!());
  }
  return frames;
}

/** Whether every promise of a stream settles, with what it should. */
async function settles(stream: Stream, write: Promise<void>) {
  for (const promise of [stream.head, write]) {
    await promise.catch((e) => ok(e instanceof H2Error, String(e)));
  }
  try {
    for (;;) {
      const got = await stream.read();
      if (!got) {
        break;
      }
      ok(got.length > 0 && got.length <= 1 << 18);
    }
    ok(Array.isArray(stream.trailers()));
  } catch (e) {
    ok(e instanceof H2Error, String(e));
    ok(e.sent === "no" || e.sent === "maybe");
  }
}

async function run(seed: number) {
  const next = seeded(seed);
  const { server, connection, gone } = pair();
  const frames = sequence(next);
  if (next(2)) {
    const at = next(frames.length);
    const some = frames[at]!.slice();
    for (let i = next(4); i >= 0; i--) {
      some[next(some.length)] = next(256);
    }
    frames[at] = next(3) ? some : some.subarray(0, next(some.length));
  }
  server.onbytes(frames[0]!.slice());
  await rest();
  const streams: Promise<void>[] = [];
  while (streams.length < 5 && connection.room() > 0) {
    const stream = connection.open(request);
    streams.push(settles(stream, stream.write(new Uint8Array(next(100_000)), true)));
  }
  const bytes = join(...frames.slice(1));
  for (let at = 0; at < bytes.length && !server.closed; ) {
    const size = 1 + next(next(2) ? 10 : 2000);
    server.onbytes(bytes.slice(at, at + size));
    at += size;
    await Promise.resolve();
  }
  await rest();
  server.onend("cut");
  await Promise.all(streams);
  equal(connection.live(), 0);
  equal(connection.room(), 0);
  equal(gone.length, 1);
  ok(server.closed > 0);
  ok(gone[0] instanceof H2Error, String(gone[0]));
  const last = server.frames.at(-1);
  ok(server.frames.slice(0, -1).every((f) => f.type !== GOAWAY));
  if (last?.type === GOAWAY) {
    ok([1, 3, 6, 9, 11].includes(last.payload[7]!), `GOAWAY ${last.payload[7]}`);
  }
}

for (let block = 0; block < 10; block++) {
  test(`no sequence of frames leaves anything open or fails otherwise than it should (${block})`, async () => {
    for (let i = 0; i < 200; i++) {
      const seed = 1000 * block + i;
      await run(seed).catch((e) => {
        throw new Error(`seed ${seed}`, { cause: e });
      });
    }
  });
}
