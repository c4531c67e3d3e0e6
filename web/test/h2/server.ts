// A scripted HTTP/2 server on a pipe in memory: it sends what a test says and
// nothing else, and keeps what it is sent. Its frames are made here, not by the
// code that is tested.

import { decoder } from "../../src/h2/hpack.js";
import { type Connection, connect, type H2Error, type Header, type Pipe } from "../../src/h2/index.js";
import { deepEqual, equal, ok } from "../harness.js";

export type Bytes = ArrayLike<number>;

export const hex = (bytes: Bytes) => Array.from(bytes, (b) => (b & 255).toString(16).padStart(2, "0")).join("");
export const unhex = (text: string) => Uint8Array.from(text.replace(/\s/g, "").match(/../g) ?? [], (x) => Number.parseInt(x, 16));
export function join(...parts: Bytes[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
export const u32 = (n: number) => [(n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
export const u16 = (n: number) => [n >> 8, n & 255];

export const DATA = 0;
export const HEADERS = 1;
export const PRIORITY = 2;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PUSH_PROMISE = 5;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;
export const names = [
  "DATA",
  "HEADERS",
  "PRIORITY",
  "RST_STREAM",
  "SETTINGS",
  "PUSH_PROMISE",
  "PING",
  "GOAWAY",
  "WINDOW_UPDATE",
  "CONTINUATION",
];

export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;

export const frame = (type: number, flags: number, id: number, payload: Bytes = []) => {
  const size = payload.length;
  const bytes = new Uint8Array(9 + size);
  bytes.set([size >> 16, (size >> 8) & 255, size & 255, type, flags, ...u32(id)]);
  bytes.set(payload, 9);
  return bytes;
};
export const settings = (values: Record<number, number> = {}) =>
  frame(SETTINGS, 0, 0, join(...Object.entries(values).map(([key, value]) => [...u16(Number(key)), ...u32(value)])));
export const data = (id: number, payload: Bytes = [], flags = 0) => frame(DATA, flags, id, payload);
export const headers = (id: number, list: Header[], flags = 0) => frame(HEADERS, END_HEADERS | flags, id, literals(list));
export const rst = (id: number, code: number) => frame(RST_STREAM, 0, id, u32(code));
export const windowUpdate = (id: number, by: number) => frame(WINDOW_UPDATE, 0, id, u32(by));
export const goaway = (last: number, code: number, debug = "") =>
  frame(GOAWAY, 0, 0, [...u32(last), ...u32(code), ...Array.from(debug, (c) => c.charCodeAt(0))]);

/** A header block of literals without indexing. */
export const literals = (list: Header[]) => list.flatMap(([name, value]) => [0, ...literal(name), ...literal(value)]);
const literal = (s: string): number[] => {
  ok(s.length < 127 + 128);
  return [...(s.length < 127 ? [s.length] : [127, s.length - 127]), ...Array.from(s, (c) => c.charCodeAt(0))];
};

export const answer: Header[] = [
  [":status", "200"],
  ["content-type", "text/plain"],
];
export const request: Header[] = [
  [":method", "POST"],
  [":scheme", "https"],
  [":path", "/a.B/C"],
  [":authority", "example.com"],
];

export const preface = Uint8Array.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (c) => c.charCodeAt(0));

export interface Frame {
  type: number;
  flags: number;
  id: number;
  payload: Uint8Array;
}

/** "HEADERS 1 +END_STREAM", "DATA 1 (5)", "SETTINGS +ACK" */
export const say = ({ type, flags, id, payload }: Frame) => {
  const parts = [names[type] ?? String(type)];
  if (id) {
    parts.push(String(id));
  }
  if (type === DATA) {
    parts.push(`(${payload.length})`);
  }
  if (type === RST_STREAM || type === GOAWAY || type === WINDOW_UPDATE) {
    parts.push(String(readU32(payload, type === GOAWAY ? 4 : 0)));
  }
  if (flags & 1 && (type === DATA || type === HEADERS || type === SETTINGS || type === PING)) {
    parts.push(type === DATA || type === HEADERS ? "+END_STREAM" : "+ACK");
  }
  return parts.join(" ");
};

export const readU32 = (b: Uint8Array, at: number) => new DataView(b.buffer, b.byteOffset).getUint32(at);

/** The server's end, and the pipe's. */
export class Server implements Pipe {
  onbytes!: (bytes: Uint8Array) => void;
  onend!: (cause: string) => void;
  ondrain!: () => void;
  /** What the client wrote, by calls of write. */
  writes: Uint8Array[] = [];
  /** How many bytes pending() says. */
  stuck = 0;
  /** Whether written bytes are stuck. */
  slow = false;
  closed = 0;
  /** Whether what is written is dropped, since the pipe is about to end. */
  closing = false;
  /** Frames that came and weren't taken yet, the client's first SETTINGS left out. */
  frames: Frame[] = [];
  readonly decode = decoder();
  /** What is left of the client's bytes. */
  #rest: Uint8Array = new Uint8Array();
  #begun = false;

  write(bytes: Uint8Array) {
    if (this.closing) {
      return false;
    }
    ok(!this.closed, "written after close");
    ok(bytes.length > 0, "an empty write");
    this.writes.push(bytes);
    if (this.slow) {
      this.stuck += bytes.length;
    }
    let rest = join(this.#rest, bytes);
    if (!this.#begun) {
      deepEqual(rest.subarray(0, 24), preface);
      rest = rest.subarray(24);
    }
    for (;;) {
      const size = rest.length < 9 ? 0 : readU32(rest, 0) >> 8;
      if (rest.length < 9 + size) {
        break;
      }
      ok(size <= 16384, "a frame that is too large");
      const got = { type: rest[3]!, flags: rest[4]!, id: readU32(rest, 5), payload: rest.subarray(9, 9 + size) };
      rest = rest.subarray(9 + size);
      if (this.#begun) {
        this.frames.push(got);
      } else {
        equal(say(got), "SETTINGS");
        this.#begun = true;
      }
    }
    equal(rest.length, 0, "h2 writes whole frames");
    return true;
  }
  pending() {
    return this.stuck;
  }
  close() {
    this.closed++;
  }

  send(...frames: Uint8Array[]) {
    this.onbytes(join(...frames));
  }
  /** The frames that came since the last call, in words. */
  async got(): Promise<string[]> {
    return (await this.take()).map(say);
  }
  /** The frames that came since the last call. */
  async take(): Promise<Frame[]> {
    await rest();
    return this.frames.splice(0);
  }
}

/** Resolves once nothing is left to do: h2 has no timers, it works in its pipe's calls and in microtasks. */
export const rest = () =>
  new Promise<void>((resolve) => {
    resting.push(resolve);
    port2.postMessage(0);
  });
// A timer would be slower: browsers give a task that a timer starts from a timer 4 ms.
const resting: (() => void)[] = [];
const { port1, port2 } = new MessageChannel();
port1.onmessage = () => resting.shift()?.();

export interface Pair {
  server: Server;
  connection: Connection;
  /** What ongone was called with. */
  gone: H2Error[];
  /** How often onroom was called. */
  rooms: () => number;
}

/** A connection whose server has sent nothing yet. */
export function pair(): Pair {
  const server = new Server();
  const gone: H2Error[] = [];
  let rooms = 0;
  const connection = connect(
    server,
    (why) => gone.push(why),
    () => rooms++,
  );
  return { server, connection, gone, rooms: () => rooms };
}

/** A connection that is ready. */
export async function started(values: Record<number, number> = {}): Promise<Pair> {
  const all = pair();
  all.server.send(settings(values));
  await all.connection.ready;
  deepEqual(await all.server.got(), ["SETTINGS +ACK", `WINDOW_UPDATE ${2 ** 30 - 65535}`]);
  return all;
}

/** Reads a stream until it ends. */
export async function readAll(stream: { read(): Uint8Array | undefined | Promise<Uint8Array | undefined> }): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (;;) {
    const bytes = await stream.read();
    if (!bytes) {
      return join(...parts);
    }
    parts.push(bytes.slice());
  }
}

/** What a promise has come to, without waiting for it. */
export async function state(promise: Promise<unknown>): Promise<"pending" | "resolved" | "rejected"> {
  const pending = {};
  await rest();
  return Promise.race([promise, Promise.resolve(pending)]).then(
    (value) => (value === pending ? "pending" : "resolved"),
    () => "rejected",
  );
}

/** FNV-1a of 32 bits. */
export function fnv(bytes: ArrayLike<number>) {
  let h = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) {
    h = Math.imul(h ^ bytes[i]!, 0x01000193);
  }
  return h >>> 0;
}
