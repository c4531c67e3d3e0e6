import { H2Error, type Stream } from "../../src/h2/index.js";
import { deepEqual, equal, ok, rejects, seeded, test } from "../harness.js";
import {
  answer,
  DATA,
  data,
  END_STREAM,
  type Frame,
  HEADERS,
  headers,
  join,
  PADDED,
  type Pair,
  readAll,
  request,
  rst,
  SETTINGS,
  type Server,
  settings,
  started,
  state,
  WINDOW_UPDATE,
  windowUpdate,
} from "./server.js";

const KiB = 1024;

/** How many octets of DATA came, by stream. */
async function sizes(server: Server): Promise<Record<number, number>> {
  const sum: Record<number, number> = {};
  for (const { type, id, payload } of await server.take()) {
    if (type === DATA) {
      sum[id] = (sum[id] ?? 0) + payload.length;
    }
  }
  return sum;
}

/** Lets the pipe take everything, as often as h2 has something for it. */
async function drain(server: Server): Promise<Record<number, number>> {
  const all: Record<number, number> = {};
  for (;;) {
    const some = await sizes(server);
    for (const [id, size] of Object.entries(some)) {
      all[Number(id)] = (all[Number(id)] ?? 0) + size;
    }
    if (Object.keys(some).length === 0) {
      return all;
    }
    server.ondrain();
  }
}

test("writes no more than the stream's window, and resolves once all is taken", async () => {
  const { server, connection } = await started({ 4: 10 });
  const stream = connection.open(request);
  const write = stream.write(new Uint8Array(25), true);
  deepEqual(await server.got(), ["HEADERS 1", "DATA 1 (10)"]);
  server.send(windowUpdate(1, 10));
  deepEqual(await server.got(), ["DATA 1 (10)"]);
  equal(await state(write), "pending");
  server.send(windowUpdate(0, 100));
  deepEqual(await server.got(), []);
  server.send(windowUpdate(1, 10));
  deepEqual(await server.got(), ["DATA 1 (5) +END_STREAM"]);
  await write;
});

test("writes no more than the connection's window, which all streams share", async () => {
  const { server, connection } = await started({ 4: 1 << 20 });
  const streams = Array.from({ length: 4 }, () => connection.open(request));
  const writes = streams.map((s) => s.write(new Uint8Array(100 * KiB), true));
  const sent = await drain(server);
  equal(
    Object.values(sent).reduce((a, b) => a + b),
    65535,
  );
  for (const write of writes) {
    equal(await state(write), "pending");
  }
  server.send(windowUpdate(1, 1 << 20));
  deepEqual(await drain(server), {});
  for (const [i, size] of Object.entries(sent)) {
    ok(size >= 15 * KiB, `stream ${i} has had its turn`);
  }
  server.send(windowUpdate(0, 400 * KiB));
  const rest = await drain(server);
  for (const id of [1, 3, 5, 7]) {
    equal((sent[id] ?? 0) + (rest[id] ?? 0), 100 * KiB);
  }
  await Promise.all(writes);
});

test("a connection's window that opens by little is shared in turns", async () => {
  const { server, connection } = await started({ 4: 1 << 20 });
  const streams = Array.from({ length: 10 }, () => connection.open(request));
  for (const stream of streams) {
    stream.write(new Uint8Array(1 << 20)).catch(() => {});
  }
  await drain(server);
  for (let i = 0; i < 10; i++) {
    server.send(windowUpdate(0, 1000));
  }
  const sent = await drain(server);
  deepEqual(sent, Object.fromEntries(streams.map((_, i) => [2 * i + 1, 1000])));
});

test("END_STREAM needs no window", async () => {
  const { server, connection } = await started({ 4: 0 });
  const [one, three] = [connection.open(request), connection.open(request)];
  const stuck = one.write(new Uint8Array(1));
  await three.write(new Uint8Array(), true);
  deepEqual(await server.got(), ["HEADERS 1", "HEADERS 3", "DATA 3 (0) +END_STREAM"]);
  const end = one.write(new Uint8Array(), true);
  equal(await state(end), "pending");
  server.send(windowUpdate(1, 1));
  await Promise.all([stuck, end]);
  deepEqual(await server.got(), ["DATA 1 (1)", "DATA 1 (0) +END_STREAM"]);
  // Nor does it while the window is under zero, or the connection has none.
  const five = connection.open(request);
  server.send(windowUpdate(5, 65535));
  await five.write(new Uint8Array(65534));
  server.send(settings({ 4: 0 }), windowUpdate(5, 1), settings({ 4: 100 }), settings({ 4: 0 }));
  const seven = connection.open(request);
  server.send(settings({ 4: 50 }));
  await seven.write(new Uint8Array(), true);
  await five.write(new Uint8Array(), true);
  deepEqual((await server.got()).slice(-2), ["DATA 7 (0) +END_STREAM", "DATA 5 (0) +END_STREAM"]);
});

test("SETTINGS change the windows of open streams, under zero too", async () => {
  const { server, connection } = await started({ 4: 100 });
  const [one, three] = [connection.open(request), connection.open(request)];
  await one.write(new Uint8Array(80)); // 20 are left
  const write = one.write(new Uint8Array(50));
  deepEqual(await sizes(server), { 1: 100 });
  server.send(settings({ 4: 30 })); // 70 under zero
  server.send(windowUpdate(1, 70));
  deepEqual(await sizes(server), {});
  server.send(windowUpdate(1, 10));
  deepEqual(await sizes(server), { 1: 10 });
  server.send(settings({ 4: 0 }), settings({ 4: 2 ** 31 - 1 }), settings({ 4: 50 }));
  await write;
  deepEqual(await sizes(server), { 1: 20 });
  const more = three.write(new Uint8Array(60));
  deepEqual(await sizes(server), { 3: 50 });
  const five = connection.open(request);
  const last = five.write(new Uint8Array(60));
  deepEqual(await sizes(server), { 5: 50 });
  server.send(settings({ 4: 60 }));
  await Promise.all([more, last]);
  deepEqual(await sizes(server), { 3: 10, 5: 10 });
});

test("windows of 2^31-1 are used, and frames stay at 16 KiB whatever the server allows", async () => {
  const { server, connection } = await started({ 4: 2 ** 31 - 1, 5: 2 ** 24 - 1 });
  server.send(windowUpdate(0, 2 ** 31 - 1 - 65535));
  const stream = connection.open(request);
  const write = stream.write(new Uint8Array(1 << 20), true);
  deepEqual(await drain(server), { 1: 1 << 20 });
  await write;
  server.send(settings({ 5: 16384 }), headers(1, answer, END_STREAM));
  await stream.head;
});

test("DATA waits while the pipe has 64 KiB, and goes on when it has drained", async () => {
  const { server, connection } = await started({ 4: 1 << 20 });
  server.send(windowUpdate(0, 1 << 20));
  const [one, three] = [connection.open(request), connection.open(request)];
  await server.take();
  server.slow = true;
  server.stuck = 64 * KiB;
  const write = one.write(new Uint8Array(200 * KiB));
  deepEqual(await sizes(server), {});
  server.stuck--;
  server.ondrain();
  deepEqual(await sizes(server), { 1: 16 * KiB });
  server.stuck = 0;
  server.ondrain();
  deepEqual(await sizes(server), { 1: 64 * KiB });
  equal(await state(write), "pending");
  // Another stream has its turn, and what isn't DATA doesn't wait.
  server.stuck = 64 * KiB;
  const other = three.write(new Uint8Array(20 * KiB));
  equal(await state(other), "pending");
  connection.open(request, true);
  one.reset(8);
  deepEqual(await server.got(), ["HEADERS 5 +END_STREAM", "RST_STREAM 1 8"]);
  await rejects(write, H2Error);
  server.stuck = 0;
  server.ondrain();
  await other;
  deepEqual(await sizes(server), { 3: 20 * KiB });
});

test("a pipe that takes everything at once needn't say that it has drained", async () => {
  const { server, connection } = await started({ 4: 2 ** 31 - 1 });
  server.send(windowUpdate(0, 2 ** 30));
  const stream = connection.open(request);
  const write = stream.write(new Uint8Array(1 << 20), true);
  equal((await sizes(server))[1], 1 << 20);
  await write;
});

test("a writer that waits for each write gets no further than the pipe", async () => {
  const { server, connection } = await started({ 4: 2 ** 31 - 1 });
  server.send(windowUpdate(0, 2 ** 30));
  server.slow = true;
  const stream = connection.open(request);
  let taken = 0;
  const writer = (async () => {
    for (let i = 0; i < 1000; i++) {
      await stream.write(new Uint8Array(KiB));
      taken += KiB;
    }
    await stream.write(new Uint8Array(), true);
  })();
  let came = 0;
  while (came < 1000 * KiB) {
    const some = (await sizes(server))[1] ?? 0;
    came += some;
    ok(some > 0 && server.stuck < 65 * KiB + 100, String(server.stuck));
    equal(taken, came, "what is taken was written");
    server.stuck = 0;
    server.ondrain();
  }
  await writer;
});

const update = (f: Frame) => (f.type === WINDOW_UPDATE ? new DataView(f.payload.buffer, f.payload.byteOffset).getUint32(0) : 0);

test("the stream's window is given back by the read after, half a window at a time", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  server.send(headers(1, answer));
  await server.take();
  for (let i = 0; i < 16; i++) {
    server.send(data(1, new Uint8Array(16 * KiB)));
  }
  deepEqual(await server.got(), [], "nothing is given back unread");
  const got = (await stream.read())!;
  equal(got.length, 256 * KiB);
  deepEqual(await server.got(), [], "the reader holds it");
  const more = stream.read() as Promise<Uint8Array>;
  deepEqual(await server.got(), ["WINDOW_UPDATE 1 262144"]);
  server.send(data(1, new Uint8Array(1)));
  equal((await more).length, 1);
  // Small pieces, each read at once.
  let back = 0;
  for (let i = 0; i < 300; i++) {
    server.send(data(1, new Uint8Array(KiB)));
    equal((stream.read() as Uint8Array).length, KiB);
    const used = 1 + i * KiB;
    back += (await server.take()).reduce((sum, f) => sum + update(f), 0);
    ok(back <= used && used - back < 128 * KiB, `${back} bytes of ${used} are given back`);
  }
  ok(back > 128 * KiB);
});

test("what a reader holds counts for the stream's window", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  const frames = (count: number) => Array.from({ length: count }, () => data(1, new Uint8Array(16 * KiB)));
  server.send(headers(1, answer), ...frames(7));
  equal((stream.read() as Uint8Array).length, 112 * KiB);
  server.send(...frames(9));
  deepEqual(await server.got(), ["HEADERS 1 +END_STREAM"]);
  server.send(data(1, [1]));
  deepEqual(await server.got(), ["RST_STREAM 1 3"]);
  equal((stream.read() as Uint8Array).length, 144 * KiB);
  await rejects(async () => stream.read(), H2Error);
});

test("no window is given back for a stream that has ended", async () => {
  for (const last of [data(1, [1], END_STREAM), rst(1, 2)]) {
    const { server, connection } = await started();
    const stream = connection.open(request);
    server.send(headers(1, answer), ...Array.from({ length: 15 }, () => data(1, new Uint8Array(16 * KiB))), last);
    ok((stream.read() as Uint8Array).length >= 240 * KiB);
    deepEqual(await server.got(), ["HEADERS 1"]);
  }
});

test("padding and empty frames that nobody can read are given back", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  server.send(headers(1, answer));
  await server.take();
  let back = 0;
  for (let i = 0; i < 2000; i++) {
    server.send(data(1, Uint8Array.of(255, ...new Uint8Array(255)), PADDED));
    back += (await server.take()).reduce((sum, f) => sum + update(f), 0);
  }
  ok(2000 * 256 - back < 128 * KiB);
  equal(await state(stream.read() as Promise<unknown>), "pending");
});

test("a stream that nobody reads stops alone, with at most 256 KiB", async () => {
  const { server, connection } = await started();
  const [stalled, busy] = [connection.open(request, true), connection.open(request, true)];
  server.send(headers(1, answer), headers(3, answer));
  await server.take();
  // The server's windows.
  let connectionWindow = 2 ** 30;
  const windows: Record<number, number> = { 1: 256 * KiB, 3: 256 * KiB };
  const send = async (id: number, size: number) => {
    windows[id]! -= size;
    connectionWindow -= size;
    server.send(data(id, new Uint8Array(size)));
    for (const f of await server.take()) {
      if (f.id) {
        windows[f.id]! += update(f);
      } else {
        connectionWindow += update(f);
      }
    }
  };
  for (let i = 0; i < 2000; i++) {
    if (windows[1]! >= 16 * KiB) {
      await send(1, 16 * KiB);
    }
    ok(windows[3]! >= 16 * KiB, "the other stream goes on");
    await send(3, 16 * KiB);
    equal((busy.read() as Uint8Array).length, 16 * KiB);
  }
  equal(windows[1], 0);
  ok(connectionWindow >= 2 ** 29);
  // It can be read, and more arrives once the reader asks for the next bytes.
  equal((stalled.read() as Uint8Array).length, 256 * KiB);
  await send(3, 1);
  equal(windows[1], 0);
  const rest = readAll(stalled);
  await send(3, 1);
  equal(windows[1], 256 * KiB);
  server.send(data(1, new Uint8Array(1), END_STREAM));
  equal((await rest).length, 1);
});

test("small frames that nobody reads take no more memory than large ones", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  server.send(headers(1, answer));
  // Each comes in a piece of 32 KiB, of which a view would keep all.
  const piece = new Uint8Array(32 * KiB);
  const one = data(1, [9]);
  const filler = piece.length - one.length - 9;
  piece.set(one);
  piece.set([(filler >> 16) & 255, (filler >> 8) & 255, filler & 255, 99, 0, 0, 0, 0, 0], one.length);
  // Fillers over 16 KiB aren't allowed: two of them.
  const half = (filler - 9) >> 1;
  piece.set([0, half >> 8, half & 255, 99, 0, 0, 0, 0, 0], one.length);
  const last = filler - 9 - half;
  piece.set([0, last >> 8, last & 255, 99, 0, 0, 0, 0, 0], one.length + 9 + half);
  for (let i = 0; i < 5000; i++) {
    server.onbytes(piece.slice());
  }
  const got = stream.read() as Uint8Array;
  equal(got.length, 5000);
  ok(got.buffer.byteLength <= 32 * KiB, String(got.buffer.byteLength));
});

test("late DATA of a stream that was reset counts for the connection's window", async () => {
  const { server, connection } = await started();
  let sent = 0;
  let back = 0;
  // 600 MiB in frames whose bytes are shared, to pass half of the window.
  const stream = connection.open(request, true);
  server.send(headers(1, answer));
  stream.reset(8);
  await server.take();
  const frame = data(1, new Uint8Array(16 * KiB));
  for (let i = 0; i < 40_000; i++) {
    server.onbytes(frame);
    sent += 16 * KiB;
  }
  for (const f of await server.take()) {
    equal(f.id, 0);
    back += update(f);
  }
  equal(back, Math.floor(sent / 2 ** 29) * 2 ** 29);
  ok(back > 0);
});

/** A server that does what is valid, in an order that a seed decides. */
async function model(seed: number) {
  const next = seeded(seed);
  // The client's windows: the initial one of a stream is that of the last SETTINGS which it has acknowledged.
  let initial = next(2) ? 65535 : next(5000);
  const settled: number[] = [];
  const { server, connection, gone }: Pair = await started({ 3: 5, 4: initial });
  interface Side {
    id: number;
    stream: Stream;
    /** The response as the server sends it, and how much of it has been sent. */
    down: Uint8Array;
    sent: number;
    window: number;
    answered: boolean;
    ended: boolean;
    /** The request's body as the client sends it, and what has come of it. */
    up: Uint8Array;
    came: Uint8Array[];
    upWindow: number;
    upEnded: boolean;
    /** What the client's application reads, and whether it does so now. */
    read: Promise<Uint8Array>;
    go: () => void;
    /** Reset by the client or the server. */
    cut: boolean;
    done: Promise<unknown>[];
  }
  const sides = new Map<number, Side>();
  const all: Side[] = [];
  void initial;
  let upWindow = 65535;
  const bytes = (size: number) => Uint8Array.from({ length: size }, () => next(256));

  const open = () => {
    const stream = connection.open(request);
    const id = 2 * all.length + 1;
    const up = bytes(next(4) ? next(3000) : next(40_000));
    let go = () => {};
    let running = next(3) > 0;
    const waiting: (() => void)[] = [];
    go = () => {
      running = true;
      for (const f of waiting.splice(0)) {
        f();
      }
    };
    const write = async () => {
      for (let at = 0; at < up.length; ) {
        const size = 1 + next(up.length - at);
        await stream.write(up.slice(at, at + size));
        at += size;
      }
      await stream.write(new Uint8Array(), true);
    };
    const read = async () => {
      deepEqual(await stream.head, answer);
      const parts: number[] = [];
      for (;;) {
        if (!running) {
          await new Promise<void>((resolve) => waiting.push(resolve));
        }
        const got = await stream.read();
        if (!got) {
          return Uint8Array.from(parts);
        }
        ok(got.length <= 256 * KiB);
        for (const b of got) {
          parts.push(b);
        }
      }
    };
    const reading = read();
    reading.catch(() => {});
    const side: Side = {
      id,
      stream,
      down: bytes(next(4) ? next(5000) : next(400_000)),
      sent: 0,
      window: 256 * KiB,
      answered: false,
      ended: false,
      up,
      came: [],
      upWindow: Number.NaN,
      upEnded: false,
      read: reading,
      go,
      cut: false,
      done: [],
    };
    const writing = write();
    writing.catch(() => {});
    side.done.push(writing, reading);
    sides.set(id, side);
    all.push(side);
  };

  const takeFrames = async () => {
    for (const f of await server.take()) {
      const side = all[(f.id - 1) / 2];
      if (f.type === DATA) {
        ok(side && !side.upEnded, "DATA after END_STREAM");
        upWindow -= f.payload.length;
        ok(upWindow >= 0, "over the connection's window");
        side.upWindow -= f.payload.length;
        ok(side.upWindow >= 0 || f.payload.length === 0, "over the stream's window");
        side.came.push(f.payload);
        side.upEnded = (f.flags & END_STREAM) > 0;
      } else if (f.type === HEADERS) {
        side!.upWindow = initial;
      } else if (f.type === SETTINGS) {
        const value = settled.shift()!;
        for (const s of all) {
          s.upWindow += value - initial;
        }
        initial = value;
      } else if (f.type === WINDOW_UPDATE && side) {
        side.window += update(f);
        ok(side.window <= 256 * KiB);
      }
    }
  };

  const step = async () => {
    const open5 = connection.room() > 0 && all.length < 30;
    const live = [...sides.values()];
    const side = live[next(Math.max(1, live.length))];
    const what = next(12);
    if (open5 && (what < 2 || !side)) {
      open();
    } else if (!side) {
      return;
    } else if (what < 6) {
      if (!side.answered) {
        side.answered = true;
        server.send(headers(side.id, answer));
      }
      const size = Math.min(next(2) ? 16 * KiB : next(2000), side.down.length - side.sent, side.window);
      const payload = side.down.subarray(side.sent, side.sent + size);
      const end = side.sent + size === side.down.length && next(2);
      if (size > 0 || end) {
        side.sent += size;
        side.window -= size;
        side.ended = !!end;
        server.send(data(side.id, payload, end ? END_STREAM : 0));
      }
      if (!side.ended && side.sent === side.down.length) {
        side.ended = true;
        server.send(headers(side.id, [["t", String(side.id)]], END_STREAM));
      }
    } else if (what < 8) {
      const by = 1 + next(20_000);
      if (next(2)) {
        upWindow += by;
        server.send(windowUpdate(0, by));
      } else if (!side.ended) {
        side.upWindow += by;
        server.send(windowUpdate(side.id, by));
      }
    } else if (what < 9) {
      const value = next(70_000);
      settled.push(value);
      server.send(settings({ 4: value }));
    } else if (what < 10) {
      side.go();
    } else if (what < 11) {
      server.stuck = next(2) ? 0 : 64 * KiB;
      if (!server.stuck) {
        server.ondrain();
      }
    } else if (next(10) === 0) {
      side.cut = true;
      if (next(2)) {
        side.stream.reset(8);
      } else {
        server.send(rst(side.id, 2));
      }
      side.go();
    }
    await takeFrames();
    for (const s of live) {
      if (s.cut || (s.ended && s.upEnded)) {
        s.go();
        sides.delete(s.id);
      }
    }
  };

  for (let i = 0; i < 20_000 && (all.length < 30 || sides.size > 0); i++) {
    await step();
  }
  equal(all.length, 30, `seed ${seed}`);
  equal(sides.size, 0, `seed ${seed}`);
  equal(connection.live(), 0);
  deepEqual(gone, []);
  for (const side of all) {
    const upload = join(...side.came);
    if (side.cut) {
      deepEqual(upload, side.up.subarray(0, upload.length));
      await Promise.allSettled(side.done);
      continue;
    }
    deepEqual(upload, side.up, `seed ${seed}, stream ${side.id}`);
    deepEqual(await side.read, side.down, `seed ${seed}, stream ${side.id}`);
    await Promise.all(side.done);
  }
}

for (let seed = 1; seed <= 10; seed++) {
  test(`valid sequences in random order bring every byte once and in order (${seed})`, () => model(seed));
}
