import { connect, H2Error, type Header, type Stream } from "../../src/h2/index.js";
import { deepEqual, equal, match, ok, rejects, test } from "../harness.js";
import {
  ACK,
  answer,
  CONTINUATION,
  data,
  END_HEADERS,
  END_STREAM,
  frame,
  goaway,
  HEADERS,
  headers,
  hex,
  join,
  literals,
  PADDED,
  PING,
  PRIORITY,
  pair,
  readAll,
  readU32,
  request,
  rest,
  rst,
  SETTINGS,
  Server,
  say,
  settings,
  started,
  state,
  windowUpdate,
} from "./server.js";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (b: Uint8Array | undefined) => new TextDecoder().decode(b);
/** A stream's next bytes, which must be there. */
const now = (stream: Stream) => {
  const got = stream.read();
  ok(!(got instanceof Promise), "read has to wait");
  return got;
};

test("sends the preface and SETTINGS at once, and nothing else before the server's SETTINGS", async () => {
  const { server, connection, gone, rooms } = pair();
  equal(server.writes.length, 1);
  equal(hex(server.writes[0]!.subarray(24)), "000012040000000000" + "000200000000" + "000400040000" + "000600010000");
  equal(await state(connection.ready), "pending");
  equal(connection.room(), 0);
  const e = await rejects(() => connection.open(request), H2Error);
  deepEqual([e.code, e.sent, e.lost], [7, "no", false]);
  server.ondrain();
  server.send(settings({ 3: 2 }));
  await connection.ready;
  equal(connection.room(), 2);
  deepEqual(await server.got(), ["SETTINGS +ACK", "WINDOW_UPDATE 1073676289"]);
  equal(rooms(), 1);
  deepEqual(gone, []);
});

test("carries a request and its response", async () => {
  const { server, connection, rooms } = await started();
  const stream = connection.open([...request, ["te", "trailers"]]);
  equal(connection.live(), 1);
  const written = stream.write(bytes("hello"), true);
  const [head, body] = await server.take();
  equal(say(head!), "HEADERS 1");
  equal(head!.flags, END_HEADERS);
  deepEqual(server.decode(head!.payload), [...request, ["te", "trailers"]]);
  equal(say(body!), "DATA 1 (5) +END_STREAM");
  equal(text(body!.payload), "hello");
  await written;
  equal(await state(stream.head), "pending");
  server.send(headers(1, answer), data(1, bytes("wor")), data(1, bytes("ld")), headers(1, [["grpc-status", "0"]], END_STREAM));
  deepEqual(await stream.head, answer);
  equal(text(now(stream)), "world");
  equal(now(stream), undefined);
  deepEqual(stream.trailers(), [["grpc-status", "0"]]);
  equal(connection.live(), 0);
  equal(rooms(), 2);
  stream.reset(8);
  deepEqual(await server.got(), [], "a stream that has ended isn't reset");
  connection.open(request, true);
  deepEqual(await server.got(), ["HEADERS 3 +END_STREAM"]);
});

test("writes the frames of a task in one piece", async () => {
  const { server, connection } = await started();
  const before = server.writes.length;
  for (let i = 0; i < 5; i++) {
    const stream = connection.open(request);
    await stream.write(bytes("a"));
    await stream.write(bytes("b"), true);
  }
  equal((await server.take()).length, 15);
  equal(server.writes.length, before + 1);
});

test("reads what waits in one piece, and a waiting read gets all that came at once", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  const read = stream.read();
  ok(read instanceof Promise);
  server.send(headers(1, answer), ...Array.from({ length: 100 }, (_, i) => data(1, [i])));
  deepEqual(
    await read,
    Uint8Array.from({ length: 100 }, (_, i) => i),
  );
  server.send(data(1, [1]));
  server.send(data(1, [2, 3]));
  deepEqual(now(stream), Uint8Array.of(1, 2, 3));
  const end = stream.read();
  server.send(data(1, [], END_STREAM));
  equal(await end, undefined);
  equal(await stream.read(), undefined, "and again");
});

test("doesn't copy a lone piece of DATA, unless it would keep more than 256 KiB", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  server.send(headers(1, answer));
  const one = data(1, new Uint8Array(100));
  const filler = frame(99, 0, 0, new Uint8Array(16384));
  const read = stream.read();
  for (const got of [() => read, () => stream.read()]) {
    const chunk = join(one, filler);
    server.onbytes(chunk);
    equal((await got())!.buffer, chunk.buffer);
  }
  server.onbytes(join(...Array(20).fill(filler), one));
  ok(now(stream)!.buffer.byteLength <= 256 * 1024);
});

test("skips informational responses, and gives a response without a body", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  server.send(headers(1, [[":status", "100"]]), headers(1, [[":status", "103"]]));
  equal(await state(stream.head), "pending");
  server.send(headers(1, [[":status", "204"]], END_STREAM));
  deepEqual(await stream.head, [[":status", "204"]]);
  equal(now(stream), undefined);
  deepEqual(stream.trailers(), []);
  equal(connection.live(), 0);
});

test("sends header blocks over 16 KiB in CONTINUATION, and takes them", async () => {
  const { server, connection } = await started();
  const large: Header[] = [...request, ...Array.from({ length: 20 }, (_, i): Header => [`x-${i}`, "v".repeat(2000)])];
  const stream = connection.open(large, true);
  const got = await server.take();
  deepEqual(got.map(say), ["HEADERS 1 +END_STREAM", "CONTINUATION 1", "CONTINUATION 1"]);
  deepEqual(
    got.map((f) => f.flags),
    [END_STREAM, 0, END_HEADERS],
  );
  deepEqual(server.decode(join(...got.map((f) => f.payload))), large);

  const block = literals([...answer, ["x", "y".repeat(100)]]);
  server.send(frame(HEADERS, END_STREAM, 1, block.slice(0, 1)));
  for (const octet of block.slice(1)) {
    server.send(frame(CONTINUATION, 0, 1, [octet]));
  }
  server.send(frame(CONTINUATION, END_HEADERS, 1));
  deepEqual(await stream.head, [...answer, ["x", "y".repeat(100)]]);
  equal(now(stream), undefined);
});

test("takes padding, priorities and unknown frames", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  const block = literals(answer);
  server.send(
    frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1]),
    frame(PRIORITY, 0, 99, [0, 0, 0, 0, 1]),
    frame(99, 255, 0, [1, 2, 3]),
    frame(99, 255, 1, []),
    frame(HEADERS, END_HEADERS | PADDED | 32, 1, [3, 0, 0, 0, 0, 1, ...block, 0, 0, 0]),
    data(1, [2, 104, 105, 0, 0], PADDED),
    data(1, [3, 0, 0, 0], PADDED),
    data(1, [0, 33], PADDED | END_STREAM),
  );
  deepEqual(await stream.head, answer);
  equal(text(await readAll(stream)), "hi!");
});

test("ignores reserved bits", async () => {
  const { server, connection } = await started({ 4: 0 });
  const stream = connection.open(request);
  const write = stream.write(bytes("123456"));
  server.send(windowUpdate(1, 2 ** 31 + 5), headers(2 ** 31 + 1, answer), data(2 ** 31 + 1, bytes("x"), END_STREAM));
  equal(text(await readAll(stream)), "x");
  deepEqual(await server.got(), ["HEADERS 1", "DATA 1 (5)"]);
  server.send(windowUpdate(2 ** 31, 1), windowUpdate(1, 1));
  await write;
});

test("what was read stays as it is when more comes", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request, true);
  const filler = Array(20).fill(frame(99, 0, 0, new Uint8Array(16384)));
  server.send(headers(1, answer), data(1, bytes("first")));
  const first = now(stream);
  // In a piece of over 256 KiB, which is copied.
  server.send(...filler, data(1, bytes("next")));
  const next = now(stream);
  server.send(...filler, data(1, bytes("last")), data(1, bytes("!")));
  deepEqual([first, next, now(stream)].map(text), ["first", "next", "last!"]);
});

test("takes frames in pieces of any size", async () => {
  const all = join(
    settings({ 3: 5 }),
    frame(PING, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
    headers(1, answer),
    data(1, bytes("hello ")),
    data(1),
    data(1, bytes("world")),
    frame(HEADERS, END_STREAM, 1, literals([["a", "b"]])),
    frame(CONTINUATION, END_HEADERS, 1, literals([["c", "d"]])),
  );
  for (let size = 1; size <= all.length; size++) {
    const { server, connection } = pair();
    // SETTINGS first, in pieces too, since no stream can be opened before.
    for (let at = 0; at < 15; at += size) {
      server.onbytes(all.slice(at, Math.min(15, at + size)));
    }
    await connection.ready;
    const stream = connection.open(request, true);
    for (let at = 15; at < all.length; at += size) {
      server.onbytes(all.slice(at, at + size));
    }
    deepEqual(await stream.head, answer);
    equal(text(await readAll(stream)), "hello world", `pieces of ${size}`);
    deepEqual(stream.trailers(), [
      ["a", "b"],
      ["c", "d"],
    ]);
    deepEqual(await server.got(), ["SETTINGS +ACK", `WINDOW_UPDATE ${2 ** 30 - 65535}`, "HEADERS 1 +END_STREAM", "PING +ACK"]);
  }
});

test("answers PING and SETTINGS", async () => {
  const { server } = await started();
  server.send(
    frame(PING, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
    settings({ 1: 0, 2: 0, 5: 16384, 6: 1, 99: 1 }),
    frame(PING, ACK, 0, new Uint8Array(8)),
  );
  const got = await server.take();
  deepEqual(got.map(say), ["PING +ACK", "SETTINGS +ACK"]);
  equal(hex(got[0]!.payload), "0102030405060708");
  server.send(frame(SETTINGS, ACK, 0));
  deepEqual(await server.got(), []);
});

test("opens no more streams than the server allows", async () => {
  const { server, connection, rooms } = await started({ 3: 2 });
  const first = connection.open(request);
  connection.open(request);
  equal(connection.room(), 0);
  const e = await rejects(() => connection.open(request), H2Error);
  deepEqual([e.code, e.sent, e.lost, e.message], [7, "no", false, "the server takes no more streams at once"]);
  const before = rooms();
  first.reset(8);
  equal(rooms(), before + 1);
  equal(connection.room(), 1);
  connection.open(request);
  server.send(settings({ 3: 0 }));
  equal(connection.room(), 0);
  server.send(settings({ 3: 3 }));
  equal(connection.room(), 1);
  equal(rooms(), before + 3);
  deepEqual((await server.take()).filter((f) => f.type !== SETTINGS).map(say), ["HEADERS 1", "HEADERS 3", "RST_STREAM 1 8", "HEADERS 5"]);
});

test("opens the next stream where onroom says that it can", async () => {
  const server = new Server();
  const opened: Stream[] = [];
  const connection = connect(
    server,
    () => {},
    () => {
      while (connection.room() > 0 && opened.length < 10) {
        const stream = connection.open(request);
        opened.push(stream);
        stream.write(bytes("x"), true).catch(() => {});
      }
    },
  );
  server.send(settings({ 3: 1 }));
  for (let i = 0; i < 10; i++) {
    await rest();
    server.send(headers(2 * i + 1, answer, END_STREAM));
  }
  equal(opened.length, 10);
  equal((await server.got()).filter((f) => f.startsWith("HEADERS")).length, 10);
  equal(connection.live(), 0);
});

test("resets a stream: what is unread is dropped, reads and writes reject", async () => {
  const { server, connection } = await started({ 4: 0 });
  const stream = connection.open(request);
  server.send(headers(1, answer));
  await stream.head;
  const write = stream.write(bytes("stuck"));
  const read = stream.read() as Promise<unknown>;
  stream.reset(8);
  const e = await rejects(write, H2Error);
  deepEqual([e.message, e.code, e.sent, e.lost], ["reset by this end", 8, "maybe", false]);
  equal(await rejects(read), e);
  equal(await rejects(async () => stream.read()), e);
  equal(await rejects(stream.write(bytes("more"))), e);
  stream.reset(8);
  deepEqual(await server.got(), ["HEADERS 1", "RST_STREAM 1 8"]);
  equal(connection.live(), 0);

  // What has come isn't given any more, nor is its end.
  const ended = connection.open(request);
  server.send(headers(3, answer), data(3, [1, 2, 3], END_STREAM));
  ended.reset(8);
  await rejects(async () => ended.read(), /reset by this end/);
  // The head is kept by whoever has it, and rejects where it hasn't come.
  const headless = connection.open(request);
  headless.reset(8);
  await rejects(headless.head, /reset by this end/);
});

test("a stream that the server resets gives what came before", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request);
  server.send(headers(1, answer), data(1, bytes("part")), rst(1, 2));
  deepEqual(await stream.head, answer);
  equal(text(now(stream)), "part");
  const e = await rejects(async () => stream.read(), H2Error);
  deepEqual([e.message, e.code, e.sent, e.lost], ["reset by the server, code 2", 2, "maybe", false]);
  equal(await rejects(stream.write(bytes("x"))), e);
  deepEqual(await server.got(), ["HEADERS 1"], "nothing is sent for it");
  equal(connection.live(), 0);

  const refused = connection.open(request);
  server.send(rst(3, 7));
  equal((await rejects(refused.head, H2Error)).sent, "no");
  // A server that has answered can't say that it didn't process the request.
  const lying = connection.open(request);
  server.send(headers(5, answer), rst(5, 7));
  equal((await rejects(async () => lying.read(), H2Error)).sent, "maybe");
});

test("keeps a whole response when the server wants no more of the request", async () => {
  const { server, connection } = await started({ 4: 1 });
  const stream = connection.open(request);
  const write = stream.write(bytes("12"));
  server.send(headers(1, answer), data(1, bytes("enough"), END_STREAM), rst(1, 0));
  equal((await rejects(write, H2Error)).code, 0);
  deepEqual(await stream.head, answer);
  equal(text(now(stream)), "enough");
  equal(now(stream), undefined);
  deepEqual(await server.got(), ["HEADERS 1", "DATA 1 (1)"]);
  equal(connection.live(), 0);
});

test("goes on writing after the response, until it is reset", async () => {
  const { server, connection } = await started();
  const stream = connection.open(request);
  server.send(headers(1, answer, END_STREAM));
  equal(now(stream), undefined);
  equal(connection.live(), 1);
  await stream.write(bytes("late"));
  stream.reset(0);
  equal(connection.live(), 0);
  deepEqual(await server.got(), ["HEADERS 1", "DATA 1 (4)", "RST_STREAM 1 0"]);
});

test("rejects writes after END_STREAM", async () => {
  const { server, connection } = await started();
  await rejects(connection.open(request, true).write(bytes("x")), /closed by this end/);
  const stream = connection.open(request);
  await stream.write(bytes("x"), true);
  await rejects(stream.write(bytes("y")), /closed by this end/);
  deepEqual(await server.got(), ["HEADERS 1 +END_STREAM", "HEADERS 3", "DATA 3 (1) +END_STREAM"]);
});

test("opens no stream with a header that can't be sent", async () => {
  const { server, connection } = await started();
  await rejects(() => connection.open([["a", "b\n"]]), TypeError);
  equal(connection.live(), 0);
  connection.open(request);
  const [head] = await server.take();
  equal(head!.id, 1);
  equal(head!.payload[0], 0x20, "the first block gives up the dynamic table");
});

test("GOAWAY: streams above its last one were certainly not processed, others go on", async () => {
  for (const last of [0, 1, 2, 3, 5, 2 ** 31 - 1]) {
    const { server, connection, gone } = await started();
    const streams = [connection.open(request), connection.open(request), connection.open(request)];
    await rest();
    server.send(goaway(last, 11, "too many pings"));
    equal(connection.room(), 0);
    equal(gone.length, 1);
    equal(gone[0]!.message, "GOAWAY from the server, code 11: too many pings");
    deepEqual([gone[0]!.code, gone[0]!.lost], [11, true]);
    const refused = await rejects(() => connection.open(request), H2Error);
    deepEqual([refused.sent, refused.code, refused.lost, refused.message], ["no", 11, true, gone[0]!.message]);
    for (const [i, stream] of streams.entries()) {
      if (2 * i + 1 > last) {
        const e = await rejects(stream.head, H2Error);
        deepEqual([e.sent, e.code, e.lost], ["no", 11, true]);
        await rejects(stream.write(bytes("x")), /too many pings/);
        await rejects(async () => stream.read(), /too many pings/);
      } else {
        await stream.write(bytes("x"), true);
        equal(server.closed, 0);
        server.send(headers(2 * i + 1, answer, END_STREAM));
        deepEqual(await stream.head, answer);
      }
    }
    equal(server.closed, 1, "after the last stream the pipe closes");
    equal(gone.length, 1);
  }
});

test("GOAWAY: a second one has a lower last stream, and a stream with an answer may have been processed", async () => {
  const { server, connection, gone } = await started();
  const streams = [connection.open(request), connection.open(request), connection.open(request)];
  await rest();
  server.send(goaway(2 ** 31 - 1, 0));
  equal(connection.live(), 3);
  server.send(headers(5, answer), goaway(1, 0));
  equal((await rejects(streams[1]!.head, H2Error)).sent, "no");
  deepEqual(await streams[2]!.head, answer);
  equal((await rejects(async () => streams[2]!.read(), H2Error)).sent, "maybe");
  equal(connection.live(), 1);
  server.send(goaway(5, 0));
  equal(connection.live(), 1);
  equal(gone.length, 1);
  server.onend("closed with 1001");
  const e = await rejects(streams[0]!.head, H2Error);
  deepEqual([e.sent, e.code, e.lost, e.message], ["maybe", -1, true, "closed with 1001; GOAWAY from the server, code 0: "]);
  equal(gone.length, 1);
});

test("GOAWAY on an idle connection closes the pipe, and the reserved bit of its last stream is ignored", async () => {
  const idle = await started();
  idle.server.send(goaway(0, 0));
  equal(idle.server.closed, 1);
  equal(idle.gone.length, 1);
  const { server, connection } = await started();
  const [one, three] = [connection.open(request), connection.open(request)];
  await rest();
  server.send(goaway(2 ** 31 + 1, 0));
  equal((await rejects(three.head, H2Error)).sent, "no");
  equal(await state(one.head), "pending");
});

test("streams that a pipe has dropped, since it was about to end, were certainly not processed", async () => {
  const { server, connection } = await started();
  const sent = connection.open(request);
  await rest();
  server.closing = true;
  const dropped = connection.open(request, true);
  await sent.write(bytes("1"), true);
  await rest();
  server.onend("closed with 1012");
  equal((await rejects(sent.head, H2Error)).sent, "maybe");
  equal((await rejects(dropped.head, H2Error)).sent, "no");
});

test("the end of the pipe ends everything", async () => {
  const { server, connection, gone } = await started({ 4: 1 });
  const one = connection.open(request);
  server.send(headers(1, answer), data(1, bytes("part")));
  const two = connection.open(request);
  const write = two.write(bytes("12"));
  const read = two.read() as Promise<unknown>;
  await rest();
  const unsent = connection.open(request);
  server.onend("closed with 1012: service restart");
  const errors = [await rejects(two.head, H2Error), await rejects(write, H2Error), await rejects(read, H2Error)];
  for (const e of errors) {
    deepEqual([e.message, e.code, e.sent, e.lost], ["closed with 1012: service restart", -1, "maybe", true]);
  }
  equal((await rejects(unsent.head, H2Error)).sent, "no", "it hadn't left");
  equal(text(now(one)), "part");
  equal((await rejects(async () => one.read(), H2Error)).sent, "maybe");
  equal(connection.live(), 0);
  equal(connection.room(), 0);
  equal((await rejects(() => connection.open(request), H2Error)).sent, "no");
  equal(gone.length, 1);
  server.onend("again");
  server.onbytes(data(1, [1]));
  server.ondrain();
  connection.close();
  equal(gone.length, 1);
});

test("the end of the pipe before SETTINGS rejects ready", async () => {
  const { server, connection, gone } = pair();
  server.onend("a dead port");
  const e = await rejects(connection.ready, H2Error);
  deepEqual([e.message, e.code, e.lost], ["a dead port", -1, true]);
  deepEqual(gone, [e]);
  equal(server.writes.length, 1);
});

test("the end of the pipe at each point of a response", async () => {
  const all = join(headers(1, answer), data(1, bytes("hello")), headers(1, [["a", "b"]], END_STREAM));
  const head = headers(1, answer).length;
  for (let cut = 0; cut <= all.length; cut++) {
    const { server, connection, gone } = await started();
    const stream = connection.open(request, true);
    await rest();
    server.onbytes(all.slice(0, cut));
    server.onend("cut");
    equal(await state(stream.head), cut < head ? "rejected" : "resolved", `head, cut at ${cut}`);
    if (cut === all.length) {
      equal(text(await readAll(stream)), "hello");
    } else {
      const e = await rejects(readAll(stream), H2Error);
      deepEqual([e.sent, e.code], ["maybe", -1]);
    }
    equal(connection.live(), 0);
    equal(gone.length, 1);
  }
});

test("close: GOAWAY, no new streams, and the pipe closes after the last one", async () => {
  const { server, connection, gone } = await started();
  const stream = connection.open(request, true);
  connection.close();
  connection.close();
  equal(connection.room(), 0);
  match((await rejects(() => connection.open(request))).message, /closed by this end/);
  const got = await server.take();
  deepEqual(got.map(say), ["HEADERS 1 +END_STREAM", "GOAWAY 0"]);
  equal(readU32(got[1]!.payload, 0), 0);
  server.send(headers(1, answer), data(1, bytes("x")));
  equal(server.closed, 0);
  server.send(data(1, bytes("y"), END_STREAM));
  equal(server.closed, 1);
  equal(text(await readAll(stream)), "xy");
  server.onend("closed");
  connection.close();
  deepEqual(gone, []);
});

test("close of an idle connection, and of one that isn't ready", async () => {
  const idle = await started();
  idle.connection.close();
  equal(idle.server.closed, 1);
  deepEqual(await idle.server.got(), ["GOAWAY 0"]);
  const early = pair();
  early.connection.close();
  equal(early.server.closed, 1);
  match((await rejects(early.connection.ready)).message, /closed by this end/);
  equal(early.server.writes.length, 1, "nothing but the preface");
  early.server.onbytes(settings());
  early.server.onend("closed");
  equal(early.rooms(), 0, "what comes after the end is ignored");
  deepEqual([...early.gone, ...idle.gone], []);
});

test("close from ongone", async () => {
  for (const end of [(s: Server) => s.onend("cut"), (s: Server) => s.send(goaway(0, 0))]) {
    const server = new Server();
    let calls = 0;
    const connection = connect(
      server,
      () => {
        calls++;
        connection.close();
      },
      () => {},
    );
    server.send(settings());
    const stream = connection.open(request);
    end(server);
    equal(calls, 1);
    equal((await rejects(stream.head, H2Error)).sent, "no");
    ok(server.closed > 0);
  }
});

test("frames for a stream that has ended may be late, and are ignored", async () => {
  const { server, connection, gone } = await started();
  const stream = connection.open(request, true);
  server.send(headers(1, answer, END_STREAM));
  await stream.head;
  server.send(windowUpdate(1, 1), rst(1, 8), data(1, [1]), headers(1, answer), data(1, [1], END_STREAM));
  deepEqual(gone, []);
  deepEqual(await server.got(), ["HEADERS 1 +END_STREAM"]);
});

test("a connection whose stream ids are used takes no more streams", async () => {
  const server = new Server();
  const gone: H2Error[] = [];
  const connection = connect(
    server,
    (why) => gone.push(why),
    () => {},
    2 ** 31 - 3,
  );
  server.send(settings());
  connection.open(request, true);
  deepEqual(gone, []);
  const last = connection.open(request, true);
  equal(gone[0]?.message, "all ids of streams are used");
  equal(connection.room(), 0);
  equal((await rejects(() => connection.open(request), H2Error)).sent, "no");
  server.send(headers(2 ** 31 - 3, answer, END_STREAM), headers(2 ** 31 - 1, answer), data(2 ** 31 - 1, bytes("bye"), END_STREAM));
  equal(text(await readAll(last)), "bye");
  equal(server.closed, 1);
  deepEqual((await server.got()).slice(2), ["HEADERS 2147483645 +END_STREAM", "HEADERS 2147483647 +END_STREAM"]);
});

test("the examples of RFC 9113, section 8.8", async () => {
  const { server, connection } = await started();
  await server.take();
  // 8.8.3: a request with content, and its response.
  const post = connection.open([...request, ["content-type", "image/jpeg"], ["content-length", "123"]]);
  await post.write(new Uint8Array(123), true);
  deepEqual(await server.got(), ["HEADERS 1", "DATA 1 (123) +END_STREAM"]);
  // 8.8.4: trailers; 8.8.5: informational responses before the final one.
  const final: Header[] = [
    [":status", "200"],
    ["content-type", "image/jpeg"],
    ["trailer", "Foo"],
  ];
  server.send(
    headers(1, [
      [":status", "100"],
      ["extension-field", "bar"],
    ]),
    headers(1, final),
    data(1, new Uint8Array(123)),
    headers(1, [["foo", "bar"]], END_STREAM),
  );
  deepEqual(await post.head, final);
  equal((await readAll(post)).length, 123);
  deepEqual(post.trailers(), [["foo", "bar"]]);
  // 8.8.1: a request without content, and a response that is only a header.
  const get = connection.open(request, true);
  server.send(
    headers(
      3,
      [
        [":status", "304"],
        ["etag", '"xyzzy"'],
        ["expires", "Thu, 23 Jan ..."],
      ],
      END_STREAM,
    ),
  );
  equal((await get.head).length, 3);
  equal(await get.read(), undefined);
});
