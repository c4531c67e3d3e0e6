import { H2Error, type Header } from "../../src/h2/index.js";
import { deepEqual, equal, ok, rejects, test } from "../harness.js";
import {
  ACK,
  answer,
  CONTINUATION,
  data,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  HEADERS,
  headers,
  join,
  literals,
  PADDED,
  PING,
  PUSH_PROMISE,
  pair,
  RST_STREAM,
  readAll,
  request,
  rest,
  rst,
  SETTINGS,
  settings,
  started,
  unhex,
  WINDOW_UPDATE,
  windowUpdate,
} from "./server.js";

const PROTOCOL_ERROR = 1;
const FLOW_CONTROL_ERROR = 3;
const STREAM_CLOSED = 5;
const FRAME_SIZE_ERROR = 6;
const COMPRESSION_ERROR = 9;
const ENHANCE_YOUR_CALM = 11;

test("what isn't HTTP/2 ends the connection, and nothing is sent", async () => {
  for (const [what, bytes] of [
    ["HTTP/1.1", new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["nothing but zeros", new Uint8Array(9)],
    ["an acknowledgement first", frame(SETTINGS, ACK, 0)],
    ["PING first", frame(PING, 0, 0, new Uint8Array(8))],
    ["GOAWAY first", frame(GOAWAY, 0, 0, new Uint8Array(8))],
    ["a response first", headers(1, answer)],
    ["SETTINGS that are wrong", settings({ 2: 1 })],
  ] as const) {
    const { server, connection, gone } = pair();
    server.onbytes(bytes);
    const e = await rejects(connection.ready, H2Error);
    ok(e.message.startsWith("the server doesn't speak HTTP/2: "), what);
    deepEqual(gone, [e]);
    equal(server.writes.length, 1);
    equal(server.closed, 1);
    server.send(settings());
    equal(connection.room(), 0);
  }
});

/** What a connection with a stream, 1, that has its head, and one, 3, that has not, can't take. */
const fatal: [what: string, code: number, ...frames: Uint8Array[]][] = [
  ["a frame over 16 KiB", FRAME_SIZE_ERROR, unhex("004001 00 00 00000001")],
  ["a frame of 16 MiB", FRAME_SIZE_ERROR, unhex("ffffff 00 00 00000001")],
  ["an unknown frame over 16 KiB", FRAME_SIZE_ERROR, unhex("004001 63 00 00000001")],
  ["DATA for the connection", PROTOCOL_ERROR, data(0)],
  ["DATA for a stream that was never opened", PROTOCOL_ERROR, data(5)],
  ["DATA for a stream of the server's", PROTOCOL_ERROR, data(2)],
  ["DATA with padding longer than it", PROTOCOL_ERROR, data(1, [2, 0], PADDED)],
  ["DATA with padding as long as it", PROTOCOL_ERROR, data(1, [1], PADDED)],
  ["padded DATA without a length", PROTOCOL_ERROR, data(1, [], PADDED)],
  ["HEADERS for the connection", PROTOCOL_ERROR, headers(0, answer)],
  ["HEADERS for a stream that was never opened", PROTOCOL_ERROR, headers(5, answer)],
  ["HEADERS for a stream of the server's", PROTOCOL_ERROR, headers(2, answer)],
  ["HEADERS with padding longer than it", PROTOCOL_ERROR, frame(HEADERS, END_HEADERS | PADDED, 3, [9, 0x88])],
  ["HEADERS that can't be decoded", COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 3, [0x80])],
  ["HEADERS with a priority that is cut off", PROTOCOL_ERROR, frame(HEADERS, END_HEADERS | 32 | PADDED, 3, [9, 0, 0, 0])],
  ["late HEADERS that can't be decoded", COMPRESSION_ERROR, rst(3, 8), frame(HEADERS, END_HEADERS, 3, [0xff])],
  ["trailers with a table over the limit", COMPRESSION_ERROR, frame(HEADERS, END_HEADERS, 1, unhex("3fe21f"))],
  ["RST_STREAM for the connection", PROTOCOL_ERROR, rst(0, 8)],
  ["RST_STREAM for a stream that was never opened", PROTOCOL_ERROR, rst(5, 8)],
  ["RST_STREAM of 3 octets", FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, [0, 0, 0])],
  ["RST_STREAM of 5 octets", FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, [0, 0, 0, 0, 0])],
  ["SETTINGS for a stream", PROTOCOL_ERROR, frame(SETTINGS, 0, 1)],
  ["SETTINGS of 5 octets", FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, [0, 1, 0, 0, 0])],
  ["an acknowledgement with settings", FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, [0, 1, 0, 0, 0, 0])],
  ["ENABLE_PUSH", PROTOCOL_ERROR, settings({ 2: 1 })],
  ["ENABLE_PUSH with a wrong value", PROTOCOL_ERROR, settings({ 2: 2 })],
  ["INITIAL_WINDOW_SIZE over 2^31-1", FLOW_CONTROL_ERROR, settings({ 4: 2 ** 31 })],
  ["INITIAL_WINDOW_SIZE that lifts a window over 2^31-1", FLOW_CONTROL_ERROR, windowUpdate(1, 65536), settings({ 4: 2 ** 31 - 1 })],
  ["MAX_FRAME_SIZE under 16 KiB", PROTOCOL_ERROR, settings({ 5: 16383 })],
  ["MAX_FRAME_SIZE over 2^24-1", PROTOCOL_ERROR, settings({ 5: 2 ** 24 })],
  ["MAX_FRAME_SIZE of 2^32-1", PROTOCOL_ERROR, settings({ 5: 2 ** 32 - 1 })],
  ["PUSH_PROMISE", PROTOCOL_ERROR, frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2, ...literals(request)])],
  ["PING for a stream", PROTOCOL_ERROR, frame(PING, 0, 1, new Uint8Array(8))],
  ["PING of 7 octets", FRAME_SIZE_ERROR, frame(PING, 0, 0, new Uint8Array(7))],
  ["PING of 9 octets", FRAME_SIZE_ERROR, frame(PING, ACK, 0, new Uint8Array(9))],
  ["GOAWAY for a stream", PROTOCOL_ERROR, frame(GOAWAY, 0, 1, new Uint8Array(8))],
  ["GOAWAY of 7 octets", FRAME_SIZE_ERROR, frame(GOAWAY, 0, 0, new Uint8Array(7))],
  ["WINDOW_UPDATE of 3 octets", FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, [0, 0, 1])],
  ["WINDOW_UPDATE by 0", PROTOCOL_ERROR, windowUpdate(0, 0)],
  ["WINDOW_UPDATE by 0 with the reserved bit", PROTOCOL_ERROR, windowUpdate(0, 2 ** 31)],
  ["WINDOW_UPDATE over 2^31-1", FLOW_CONTROL_ERROR, windowUpdate(0, 2 ** 31 - 1)],
  ["WINDOW_UPDATE for a stream that was never opened", PROTOCOL_ERROR, windowUpdate(5, 1)],
  ["CONTINUATION without HEADERS", PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 1)],
  ["CONTINUATION for the connection", PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 0)],
  ["CONTINUATION after END_HEADERS", PROTOCOL_ERROR, headers(3, answer), frame(CONTINUATION, END_HEADERS, 3)],
  ["CONTINUATION for another stream", PROTOCOL_ERROR, frame(HEADERS, 0, 3), frame(CONTINUATION, END_HEADERS, 1)],
  ["DATA within a header block", PROTOCOL_ERROR, frame(HEADERS, 0, 3), data(1)],
  ["HEADERS within a header block", PROTOCOL_ERROR, frame(HEADERS, 0, 3), headers(3, answer)],
  ["PING within a header block", PROTOCOL_ERROR, frame(HEADERS, 0, 3), frame(PING, 0, 0, new Uint8Array(8))],
  ["an unknown frame within a header block", PROTOCOL_ERROR, frame(HEADERS, 0, 3), frame(99, 0, 3)],
];

for (const [what, code, ...frames] of fatal) {
  test(`${what} ends the connection`, async () => {
    const { server, connection, gone } = await started();
    const [one, three] = [connection.open(request), connection.open(request)];
    server.send(headers(1, answer), data(1, [7]));
    await server.take();
    const unsent = connection.open(request, true); // its HEADERS never leave
    server.frames = [];
    const sent = server.writes.length;
    // The frame size of a stream that was never opened is that of 7 now.
    server.send(...frames.map((f) => (f[8] === 5 ? join(f.subarray(0, 8), [7], f.subarray(9)) : f)));
    const got = await server.take();
    equal(server.writes.length, sent + 1);
    equal(got.length, 1);
    equal(got[0]!.type, GOAWAY);
    deepEqual([...got[0]!.payload.subarray(0, 8)], [0, 0, 0, 0, 0, 0, 0, code]);
    equal(server.closed, 1);
    equal(gone.length, 1);
    const why = gone[0]!;
    equal(String.fromCharCode(...got[0]!.payload.subarray(8)), why.message);
    deepEqual([why.code, why.lost], [code, true]);
    deepEqual(one.read(), Uint8Array.of(7));
    for (const [promise, processed] of [
      [readAll(one), "maybe"],
      [three.write(Uint8Array.of(1)), undefined],
      [unsent.head, "no"],
    ] as const) {
      const e = await rejects(promise, H2Error);
      ok(e.sent === processed || !processed, e.message);
    }
    equal(connection.live(), 0);
    server.send(frame(PING, 0, 0, new Uint8Array(8)));
    equal(server.writes.length, sent + 1);
  });
}

/** What ends stream 1 alone, on a connection as above where stream 1 has no head yet. */
const faulty: [what: string, code: number, ...frames: Uint8Array[]][] = [
  ["DATA before HEADERS", PROTOCOL_ERROR, data(1, [1])],
  ["END_STREAM before HEADERS", PROTOCOL_ERROR, data(1, [], END_STREAM)],
  ["DATA between an informational response and the head", PROTOCOL_ERROR, headers(1, [[":status", "100"]]), data(1, [1])],
  ["END_STREAM in an informational response", PROTOCOL_ERROR, headers(1, [[":status", "100"]], END_STREAM)],
  ["no headers", PROTOCOL_ERROR, headers(1, [], END_STREAM)],
  ["no status", PROTOCOL_ERROR, headers(1, [["a", "b"]])],
  ["a status in the wrong place", PROTOCOL_ERROR, headers(1, [["a", "b"], ...answer])],
  ["two statuses", PROTOCOL_ERROR, headers(1, [...answer, [":status", "200"]])],
  ["a status of 2 digits", PROTOCOL_ERROR, headers(1, [[":status", "20"]])],
  ["a status of 4 digits", PROTOCOL_ERROR, headers(1, [[":status", "2000"]])],
  ["a status that is a word", PROTOCOL_ERROR, headers(1, [[":status", "two"]])],
  ["a request's pseudo-header", PROTOCOL_ERROR, headers(1, [...answer, [":path", "/"]])],
  ["an upper-case name", PROTOCOL_ERROR, headers(1, [...answer, ["Grpc-Status", "0"]])],
  ["an empty name", PROTOCOL_ERROR, headers(1, [...answer, ["", "0"]])],
  ["a name with a space", PROTOCOL_ERROR, headers(1, [...answer, ["a b", "0"]])],
  ["a value with a line feed", PROTOCOL_ERROR, headers(1, [...answer, ["a", "b\nc: d"]])],
  ["a value with a carriage return", PROTOCOL_ERROR, headers(1, [...answer, ["a", "b\r"]])],
  ["a value with a zero", PROTOCOL_ERROR, headers(1, [...answer, ["a", "\0"]])],
  ["trailers without END_STREAM", PROTOCOL_ERROR, headers(1, answer), headers(1, [["a", "b"]])],
  ["trailers with a status", PROTOCOL_ERROR, headers(1, answer), headers(1, answer, END_STREAM)],
  ["trailers with an upper-case name", PROTOCOL_ERROR, headers(1, answer), headers(1, [["A", "b"]], END_STREAM)],
  ["DATA after END_STREAM", STREAM_CLOSED, headers(1, answer, END_STREAM), data(1, [1])],
  ["HEADERS after END_STREAM", STREAM_CLOSED, headers(1, answer, END_STREAM), headers(1, [["a", "b"]], END_STREAM)],
  ["WINDOW_UPDATE by 0", PROTOCOL_ERROR, windowUpdate(1, 0)],
  ["WINDOW_UPDATE over 2^31-1", FLOW_CONTROL_ERROR, windowUpdate(1, 2 ** 31 - 1)],
  ["WINDOW_UPDATEs over 2^31-1", FLOW_CONTROL_ERROR, windowUpdate(1, 2 ** 30), windowUpdate(1, 2 ** 30)],
  ["more than the window", FLOW_CONTROL_ERROR, headers(1, answer), ...Array.from({ length: 17 }, () => data(1, new Uint8Array(16384)))],
  [
    "padding over the window",
    FLOW_CONTROL_ERROR,
    headers(1, answer),
    ...Array.from({ length: 16 }, () => data(1, new Uint8Array(16384))),
    data(1, [0], PADDED),
  ],
  ["a header list over 64 KiB", ENHANCE_YOUR_CALM, ...bomb(1, 0)],
  ["trailers over 64 KiB", ENHANCE_YOUR_CALM, headers(1, answer), ...bomb(1, END_STREAM)],
];

/** Headers of 1,000 octets, and references to them that make 300 KB. */
function bomb(id: number, flags: number): Uint8Array[] {
  const value = new Uint8Array(1000).fill(98);
  return [frame(HEADERS, END_HEADERS | flags, id, [0x40, 1, 97, 127, 0xe9, 0x06, ...value, ...new Uint8Array(300).fill(0xbe)])];
}

for (const [what, code, ...frames] of faulty) {
  test(`${what} ends the stream alone`, async () => {
    const { server, connection, gone } = await started();
    const [one, three] = [connection.open(request), connection.open(request)];
    await server.take();
    server.send(...frames);
    const got = await server.got();
    deepEqual(
      got.filter((f) => f.startsWith("RST")),
      [`RST_STREAM 1 ${code}`],
    );
    equal(connection.live(), 1);
    const e = await rejects(one.write(Uint8Array.of(1)), H2Error);
    deepEqual([e.code, e.sent, e.lost], [code, "maybe", false]);
    // Frames that were under way when the stream was reset.
    server.send(data(1, [1]), headers(1, answer), windowUpdate(1, 1), rst(1, 5));
    // The other stream's, which may refer to fields that came with the faulty one.
    server.send(headers(3, answer), data(3, [5], END_STREAM));
    deepEqual(await three.head, answer);
    deepEqual(await readAll(three), Uint8Array.of(5));
    deepEqual(gone, []);
    equal(server.closed, 0);
  });
}

test("a header list that is too large leaves the dynamic table right", async () => {
  const { server, connection } = await started();
  const [one, three] = [connection.open(request, true), connection.open(request, true)];
  server.send(...bomb(1, END_STREAM), frame(HEADERS, END_HEADERS | END_STREAM, 3, [0x88, 0xbe]));
  const e = await rejects(one.head, H2Error);
  equal(e.message, "headers from the server are over 64 KiB");
  deepEqual(await three.head, [
    [":status", "200"],
    ["a", "b".repeat(1000)],
  ]);
});

test("a stream's header block that came after its reset enters the dynamic table", async () => {
  const { server, connection } = await started();
  const [one, three] = [connection.open(request, true), connection.open(request, true)];
  one.reset(8);
  server.send(frame(HEADERS, END_HEADERS, 1, [0x88, ...unhex("4001610162")]), frame(HEADERS, END_HEADERS | END_STREAM, 3, [0x88, 0xbe]));
  deepEqual(await three.head, [
    [":status", "200"],
    ["a", "b"],
  ]);
});

/** The most that a connection wrote or keeps, when a server sends `count` times what `next` gives. */
async function flood(count: number, next: (i: number) => Uint8Array, reads = true) {
  const all = await started();
  const { server, connection } = all;
  const stream = connection.open(request);
  server.send(headers(1, answer));
  await stream.head;
  await server.take();
  server.writes = [];
  let written = 0;
  for (let i = 0; i < count && !server.closed; i++) {
    server.onbytes(next(i));
    if (i % 100 === 99) {
      await rest();
      written += server.writes.splice(0).reduce((sum, w) => sum + w.length, 0);
      server.frames = [];
      if (!reads) {
        server.stuck = written;
      }
    }
  }
  return { ...all, stream, written };
}

test("floods of frames that need no reply cost nothing", async () => {
  for (const [what, next] of [
    ["empty DATA", () => data(1)],
    ["acknowledgements of PING", () => frame(PING, ACK, 0, new Uint8Array(8))],
    ["acknowledgements of SETTINGS", () => frame(SETTINGS, ACK, 0)],
    ["WINDOW_UPDATE of the connection", () => windowUpdate(0, 1)],
    ["WINDOW_UPDATE of a stream", () => windowUpdate(1, 1)],
    ["PRIORITY", () => frame(2, 0, 1, [0, 0, 0, 0, 1])],
    ["padding alone", () => data(1, Uint8Array.of(255, ...new Uint8Array(255)), PADDED)],
    ["unknown frames", () => frame(99, 0, 1, new Uint8Array(100))],
  ] as const) {
    const { gone, written } = await flood(3000, next);
    deepEqual(gone, [], what);
    ok(written < 100, what); // padding is given back
  }
});

test("floods of frames for streams that have ended are bounded", async () => {
  for (const [what, next] of [
    ["RST_STREAM", () => rst(1, 8)],
    ["HEADERS", () => headers(1, answer)],
    ["trailers", () => headers(1, [["a", "b"]], END_STREAM)],
    ["DATA", () => data(1, new Uint8Array(100))],
    ["WINDOW_UPDATE", () => windowUpdate(1, 2 ** 31 - 1)],
  ] as const) {
    const { gone, written, stream } = await flood(3000, (i) => (i === 0 ? rst(1, 8) : next()));
    deepEqual(gone, [], what);
    equal(written, 0, what);
    await rejects(async () => stream.read(), H2Error);
  }
});

test("floods of PING and SETTINGS are answered as long as the server reads", async () => {
  for (const [what, next] of [
    ["PING", () => frame(PING, 0, 0, new Uint8Array(8))],
    ["SETTINGS", () => settings({ 4: 65535 })],
    ["SETTINGS with every value of INITIAL_WINDOW_SIZE", (i: number) => settings({ 4: i * 1000 })],
  ] as const) {
    const { gone, written } = await flood(10_000, next);
    deepEqual(gone, [], what);
    ok(written >= 9 * 10_000, what);
  }
  for (const [what, next] of [
    ["PING", () => frame(PING, 0, 0, new Uint8Array(8))],
    ["SETTINGS", () => settings()],
  ] as const) {
    const { gone, written, server } = await flood(500_000, next, false);
    equal(gone[0]?.code, ENHANCE_YOUR_CALM, what);
    equal(gone[0]?.message, "the server sends but doesn't read");
    ok(written < 2 ** 20 + 2000, what);
    equal(server.closed, 1);
  }
});

test("a header block that never ends is bounded", async () => {
  for (const [what, next, most] of [
    ["large CONTINUATION", () => frame(CONTINUATION, 0, 1, new Uint8Array(16384)), 20],
    ["small CONTINUATION", () => frame(CONTINUATION, 0, 1, [0x88]), 30_000],
    ["empty CONTINUATION", () => frame(CONTINUATION, 0, 1), 30_000],
  ] as const) {
    let sent = 0;
    const { gone, written } = await flood(2 * most, (i) => {
      sent++;
      return i === 0 ? frame(HEADERS, 0, 1) : next();
    });
    equal(gone[0]?.code, ENHANCE_YOUR_CALM, what);
    equal(gone[0]?.message, "headers from the server are over 64 KiB");
    ok(sent < most, `${what}: ${sent}`);
    ok(written < 100);
  }
});

test("header blocks are bounded one by one", async () => {
  const { server, connection, gone } = await started();
  for (let i = 0; i < 30; i++) {
    const stream = connection.open(request, true);
    const half = literals(Array.from({ length: 100 }, (): Header => ["x", "y".repeat(100)]));
    server.send(frame(HEADERS, END_STREAM, 2 * i + 1, [0x88, ...half]), frame(CONTINUATION, END_HEADERS, 2 * i + 1, half));
    equal((await stream.head).length, 201);
  }
  deepEqual(gone, []);
});

test("streams that are opened and reset at once leave nothing", async () => {
  const { server, connection, gone } = await started({ 3: 1 });
  for (let i = 0; i < 2000; i++) {
    const stream = connection.open(request);
    server.send(rst(2 * i + 1, 7));
    equal((await rejects(stream.head, H2Error)).sent, "no");
  }
  equal(connection.live(), 0);
  equal(connection.room(), 1);
  deepEqual(gone, []);
});

test("headers are strings of bytes", async () => {
  const { server, connection } = await started();
  const stream = connection.open([...request, ["x", "\xe9\xff"]], true);
  const [head] = await server.take();
  deepEqual(server.decode(head!.payload)?.at(-1), ["x", "\xe9\xff"]);
  const list: Header[] = [...answer, ["x", "\xe9\xff"]];
  server.send(headers(1, list, END_STREAM));
  deepEqual(await stream.head, list);
});

test("a frame's payload is not waited for when it is too large", async () => {
  const { server, gone } = await started();
  server.onbytes(unhex("7fffff"));
  deepEqual(gone, []);
  server.onbytes(unhex("00 00 00000001"));
  equal(gone[0]?.code, FRAME_SIZE_ERROR);
  equal(gone[0]?.message, "frame of over 16384 bytes from the server");
});
