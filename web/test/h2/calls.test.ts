// Generated requests on real connections to golang.org/x/net/http2: each byte and each
// field is compared on both sides. e2e/backend/raw.go answers them.

import { type Connection, connect, H2Error, type Header, type Pipe, type Stream } from "../../src/h2/index.js";
import { box, control, deepEqual, env, equal, ok, seeded, test } from "../harness.js";
import { fnv } from "./server.js";

/** A connection over a WebSocket; open() waits until it takes one more stream. */
async function dial(baseUrl: string) {
  const socket = new env.WebSocket(baseUrl.replace("http", "ws"), "h2ts");
  socket.binaryType = "arraybuffer";
  const pipe: Pipe = {
    write(bytes) {
      socket.send(bytes as Uint8Array<ArrayBuffer>);
      drain();
      return true;
    },
    pending: () => socket.bufferedAmount,
    close: () => socket.close(),
    onbytes() {},
    onend() {},
    ondrain() {},
  };
  const drain = () => void (socket.bufferedAmount === 0 ? pipe.ondrain() : setTimeout(drain, 1));
  socket.onmessage = (e) => pipe.onbytes(new Uint8Array(e.data));
  socket.onclose = (e) => pipe.onend(`closed with ${e.code}`);
  let waiting: (() => void)[] = [];
  const wake = () => {
    const all = waiting;
    waiting = [];
    for (const f of all) {
      f();
    }
  };
  // At once, since the server speaks first.
  const connection = await new Promise<Connection>((resolve, reject) => {
    socket.onopen = () => resolve(connect(pipe, wake, wake));
    socket.onerror = () => reject(new Error(`no WebSocket to ${baseUrl}`));
  });
  await connection.ready;
  const open = async (headers: Header[], end: boolean) => {
    while (connection.room() === 0) {
      await new Promise<void>((resolve) => waiting.push(resolve));
    }
    return connection.open(headers, end);
  };
  return { connection, open };
}

type Dice = (n: number) => number;
const pick = <T>(dice: Dice, ...of: T[]): T => of[dice(of.length)] as T;

/** Fields that no server adds of its own. */
function fields(dice: Dice): Header[] {
  const list: Header[] = [];
  while (dice(4)) {
    const size = pick(dice, 0, 1, 10, 100, dice(pick(dice, 1000, 1000, 20000)));
    const value = Array.from({ length: size }, () => String.fromCharCode(dice(5) ? 0x21 + dice(94) : 0x80 + dice(128)));
    list.push([pick(dice, "x-a", "x-b-bin", "x-a-much-longer-name-than-the-others", "x-c"), value.join("")]);
  }
  return list;
}

const own = (list: readonly Header[]) => list.filter(([name]) => name.startsWith("x-")).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));

/** The same as rawContent in e2e/backend/raw.go. */
function content(piece: number, size: number) {
  return Uint8Array.from({ length: size }, (_, i) => i * 7 + (i >> 8) + piece);
}

const sizes = (dice: Dice) => {
  const list: number[] = [];
  while (dice(3)) {
    list.push(pick(dice, 0, 1, 100, 16384, 16385, dice(5000), dice(pick(dice, 5000, 50000, 300000))));
  }
  return list;
};

const join = (pieces: Uint8Array[]) => {
  const all = new Uint8Array(pieces.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
};

interface Seen {
  header: Record<string, string[]> | null;
  size: number;
  sum: number;
  ended: boolean;
}

async function call(dice: Dice, id: string, path: string, open: Awaited<ReturnType<typeof dial>>["open"], limited: boolean) {
  const script = {
    status: pick(dice, 200, 200, 404, 503),
    header: fields(dice),
    content: sizes(dice),
    trailer: fields(dice),
    read: pick(dice, "first", "beside", "beside", "not"),
    abort: !dice(10),
  };
  const header = fields(dice);
  const upload = sizes(dice).map((n, i) => content(i + 100, n));
  const [resetsWhileWriting, resetsWhileReading] = [!dice(8), !dice(8)];
  const slow = !dice(3);
  const endsAlone = dice(2) === 1; // END_STREAM in a frame of its own

  const stream: Stream = await open(
    [
      [":method", "POST"],
      [":scheme", "http"],
      [":path", `${path}/raw`],
      [":authority", "server.example"],
      ["id", id],
      ["script", JSON.stringify(script).replace(/[\x80-\xff]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`)],
      ...header,
    ],
    upload.length === 0,
  );
  let reset = false;
  const cancel = () => {
    reset = true;
    stream.reset(8);
  };
  let sent = upload.length === 0;
  const write = async () => {
    for (const [i, piece] of upload.entries()) {
      if (resetsWhileWriting && i === upload.length - 1) {
        return cancel();
      }
      const last = i === upload.length - 1 && !endsAlone;
      await stream.write(piece.slice(), last);
      sent ||= last;
    }
    if (upload.length > 0 && endsAlone) {
      await stream.write(new Uint8Array(), true);
      sent = true;
    }
  };
  // It can fail: by a reset from either side.
  const writing = write().then(
    () => undefined,
    (e: unknown) => e,
  );
  const pieces: Uint8Array[] = [];
  let head: Header[] = [];
  let error: unknown;
  try {
    head = await stream.head;
    for (let bytes = await stream.read(); bytes; bytes = await stream.read()) {
      pieces.push(bytes.slice());
      if (resetsWhileReading) {
        cancel();
      }
      if (slow) {
        await new Promise((resolve) => setTimeout(resolve));
      }
    }
  } catch (e) {
    error = e;
  }
  const writeError = await writing;
  const refused = (e: unknown) => e instanceof H2Error && e.code === 1 && e.message.startsWith("reset by the server");
  if (limited && (refused(writeError) || (refused(error) && head.length === 0))) {
    // x/net/http2 counts a stream until it has noted that its end is written. One that comes before that is over the limit
    // ("They should know better").
    return;
  }
  if (script.read !== "not" && !script.abort && !reset) {
    equal(writeError, undefined, "writing");
  }
  if (reset && head.length === 0) {
    return; // the server may not have begun with it
  }
  const seen = await control<Seen>("/raw", { id });

  ok(seen.header, "the script hasn't been understood");
  deepEqual(
    own(Object.entries(seen.header).flatMap(([name, values]) => values.map((v): Header => [name.toLowerCase(), v]))),
    own(header),
    "the request's fields",
  );
  const uploaded = join(upload);
  if (script.read !== "not") {
    equal(seen.ended, sent, "the server saw the request's end");
    ok(seen.size <= uploaded.length, "the server read more than was sent");
    if (seen.ended) {
      deepEqual([seen.size, seen.sum], [uploaded.length, fnv(uploaded)], "the request's content");
    }
  } else if (writeError !== undefined) {
    ok(writeError instanceof H2Error, "the server doesn't read");
  }
  const want = join(script.content.map((n, i) => content(i, n)));
  const got = join(pieces);
  if (error === undefined) {
    ok(!script.abort, "the server has reset the stream"); // a reset from here may come too late
    equal(head[0]?.join(), `:status,${script.status}`);
    deepEqual(own(head), own(script.header), "the answer's fields");
    deepEqual([got.length, fnv(got)], [want.length, fnv(want)], "the answer's content");
    deepEqual(own(stream.trailers()), own(script.trailer), "the trailers");
  } else {
    ok(error instanceof H2Error && !error.lost, `the connection is lost: ${error}`);
    equal(error.sent, "maybe");
    ok((reset && error.code === 8) || (script.abort && error.code === 2), `the stream was reset: ${error}`);
    deepEqual(got, want.subarray(0, got.length), "the answer's content before the reset");
  }
}

test("each byte and each field arrives, in both directions", async () => {
  for (let seed = 0; seed < (env.long ? 20 : 5); seed++) {
    const dice = seeded(seed);
    const maxStreams = pick(dice, 0, 1, 3, 100);
    const { baseUrl } = await box({ maxStreams, streamWindow: pick(dice, 0, 1000, 65535) });
    const path = new URL(baseUrl).pathname;
    const { connection, open } = await dial(baseUrl);
    const calls = Array.from({ length: 12 }, (_, i) =>
      call(seeded(seed * 1000 + i), `${path}-${i}`, path, open, maxStreams === 1 || maxStreams === 3),
    );
    const failed = (await Promise.allSettled(calls)).flatMap((r, i) =>
      r.status === "rejected" ? [`seed ${seed}, call ${i}: ${r.reason.stack}`] : [],
    );
    deepEqual(failed, []);
    equal(connection.live(), 0);
    connection.close();
  }
});
