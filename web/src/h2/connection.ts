import { fullFlush, quietTicks } from "../limits.js";
import { joined, octets, raw, text, u32 } from "./bytes.js";
import { Code, H2Error } from "./error.js";
import { Flag, maxFrameSize, splitter, Type } from "./frames.js";
import { decoder, encode, valid } from "./hpack.js";
import type { Pipe } from "./pipe.js";
import type { Connection, Header, Stream } from "./types.js";

// The client's connection preface (RFC 9113, section 3.4) with SETTINGS: ENABLE_PUSH 0,
// INITIAL_WINDOW_SIZE 256 KiB (streamWindow), MAX_HEADER_LIST_SIZE 64 KiB.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0\0\x02\0\0\0\0\0\x04\0\x04\0\0\0\x06\0\x01\0\0";

/** The most that is held for a stream that nobody reads, in bytes: its window is given back by the next read. */
const streamWindow = 1 << 18;
/** The connection's window is given back as bytes come, so that no stream can stop the others. */
const connectionWindow = 1 << 30;
/** The largest window (RFC 9113, section 6.9.1) and the largest stream id. */
const max31 = 0x7fffffff;
/** DATA waits while this many bytes wait in the pipe (pipe.ts). */
const maxPending = 1 << 16;
/** A server that makes this client reply while this many bytes wait in the pipe doesn't read. */
const maxReplies = 1 << 20;
/** The largest header block, in bytes on the wire with its frames' headers. Huffman's codes can make it larger than the list. */
const maxBlock = 1 << 18;

/** What a stream is for its connection. */
interface Live {
  /** Sends one frame of what is queued, and returns true, if there is anything and the windows allow it. */
  turn(): boolean;
  /** Changes what may be sent. `refuse` is told if that can't be. */
  grow(by: number, refuse?: Refuse): void;
  headers(list: Header[] | undefined, end: number): void;
  /** Takes DATA, whose frame was `size` long with its padding. */
  data(payload: Uint8Array, size: number, end: number): void;
  /** Ends the stream, for a reason that the server knows. */
  fail(e: H2Error): void;
}

interface Write {
  bytes: Uint8Array;
  end: boolean | undefined;
  /** Is called when the bytes are taken, or why they can't be. */
  done(error?: H2Error): void;
}

type Refuse = (code: Code, what?: string) => void;

const taken = Promise.resolve();
const nothing = () => {};
const tooLarge = "headers from the server are over 64 KiB";

/** A promise that nobody has to wait for, and how it ends. */
function deferred<T>(): [promise: Promise<T>, resolve: (value: T) => void, reject: (why: H2Error) => void] {
  let resolve!: (value: T) => void;
  let reject!: (why: H2Error) => void;
  const promise = new Promise<T>((a, b) => {
    resolve = a;
    reject = b;
  });
  promise.catch(nothing);
  return [promise, resolve, reject];
}

/**
 * Starts HTTP/2 on a pipe, as the client.
 *
 * @param ongone is called once, when the server takes no more streams (GOAWAY)
 *   or the connection ended. Open streams may go on after a GOAWAY.
 * @param onroom is called when room() may have grown.
 * @param nextId is the first stream's id. It is there for tests.
 */
export function connect(pipe: Pipe, ongone: (why: H2Error) => void, onroom: () => void, nextId = 1): Connection {
  /** The open streams, the next in turn to write first. */
  const streams = new Map<number, Live>();
  const decode = decoder();
  const [ready, resolveReady, rejectReady] = deferred<void>();

  /** Streams from this one on haven't been written to the pipe. */
  let unsentId = nextId;
  // The server's settings.
  let maxStreams = 0;
  let initialWindow = 65535;
  /** What may be sent. */
  let window = 65535;
  /** What has come and isn't given back yet. */
  let credit = 0;

  /** The server's SETTINGS have come. */
  let started = false;
  /** Why no stream can be opened any more. */
  let why: H2Error | undefined;
  /** The pipe is of no more use. */
  let ended = false;

  /** The frame that is being handled. */
  let type = 0;
  let id = 0;
  let size = 0;
  const frameFault = (code: Code) => `error ${code} in HTTP/2 from the server: frame of type ${type}, stream ${id}, ${size} bytes`;
  /** A connection error (RFC 9113, section 5.4.1). */
  const bad = (code: Code, what = frameFault(code)): never => {
    throw new H2Error(what, code, true);
  };

  /** A window after it has grown (RFC 9113, sections 6.9 and 6.9.1). `refuse` is told if it can't. */
  const grown = (window: number, by: number, refuse: Refuse) => {
    if (!by || window + by > max31) {
      refuse(by ? Code.FlowControlError : Code.ProtocolError);
    }
    return window + by;
  };
  /** The payload of a frame without its padding (RFC 9113, section 6.1). */
  const unpadded = (payload: Uint8Array, flags: number) => {
    if (flags & Flag.Padded) {
      const end = size - payload[0]!;
      if (!(end > 0)) {
        bad(Code.ProtocolError);
      }
      return payload.subarray(1, end);
    }
    return payload;
  };

  /** The header block that isn't complete yet. */
  const block = joined();
  let blockSize = 0;
  let blockId = 0;
  let blockEnd = 0;

  // Frames are gathered, and leave in one piece when no more come.
  let out = new Uint8Array(fullFlush);
  let used = 0;
  let quiet = 0;
  const flush = () => {
    if (used && !ended && pipe.write(out.slice(0, used))) {
      unsentId = nextId;
    }
    used = 0;
  };
  const tick = () => {
    if (used < fullFlush && quiet++ < quietTicks) {
      void taken.then(tick);
    } else {
      flush();
      pump(); // a pipe that takes everything at once has nothing to drain
    }
  };
  const frame = (type: Type, flags: number, id: number, payload: ArrayLike<number>) => {
    const size = payload.length;
    const at = used;
    used += 9 + size;
    if (used > out.length) {
      const old = out;
      out = new Uint8Array(2 * used);
      out.set(old);
    }
    out.set([size >> 16, size >> 8, size, type, flags, ...octets(id)], at);
    out.set(payload, at + 9);
    quiet = 0;
    if (!at) {
      void taken.then(tick);
    }
  };
  /** Gives a window back once half of it has been used, and returns what is left to be given back. */
  const give = (id: number, credit: number, size: number) => {
    if (credit < size / 2) {
      return credit;
    }
    frame(Type.WindowUpdate, 0, id, octets(credit));
    return 0;
  };

  const backlog = () => pipe.pending() + used;
  const pump = () => {
    for (const [id, stream] of streams) {
      if (backlog() >= maxPending) {
        break;
      }
      // The other streams come before its next frame. One that has ended isn't there any more.
      if (stream.turn() && streams.delete(id)) {
        streams.set(id, stream);
      }
    }
  };
  /** Replies to frames that a server could send without end. */
  const reply = (type: Type, payload: ArrayLike<number>) => {
    if (backlog() > maxReplies) {
      bad(Code.EnhanceYourCalm, "the server sends but doesn't read");
    }
    frame(type, Flag.Ack, 0, payload);
  };

  /** No new streams. */
  const leave = (e: H2Error) => {
    if (!why) {
      why = new H2Error(e.message, e.code, true, "no");
      ongone(e);
    }
  };
  const goaway = (e: H2Error) => {
    if (started) {
      frame(Type.Goaway, 0, 0, [0, 0, 0, 0, ...octets(e.code), ...raw(e.message)]);
    }
  };
  /** Nothing more happens. */
  const end = (e: H2Error) => {
    if (!ended) {
      const unsent = unsentId;
      leave(e);
      flush();
      ended = true;
      rejectReady(e);
      pipe.close();
      for (const [id, stream] of streams) {
        stream.fail(id < unsent ? e : new H2Error(e.message, e.code, true, "no"));
      }
    }
  };
  const endIfIdle = () => {
    if (why && !streams.size) {
      end(why);
    }
  };
  const room = () => (why ? 0 : Math.max(0, maxStreams - streams.size));

  const openStream = (headers: readonly Header[], finished?: boolean): Stream => {
    const id = nextId;
    const fields = encode(headers, id === 1);
    nextId += 2;
    if (nextId > max31) {
      leave(new H2Error("all ids of streams are used", Code.NoError, true, "no"));
    }
    let type = Type.Headers;
    let flags = finished ? Flag.EndStream : 0;
    do {
      const part = fields.splice(0, maxFrameSize);
      frame(type, fields.length ? flags : flags | Flag.EndHeaders, id, part);
      type = Type.Continuation;
      flags = 0;
    } while (fields.length);

    const [head, resolveHead, rejectHead] = deferred<Header[]>();
    const unread = joined();
    let queue: Write[] = [];
    let sendWindow = initialWindow;
    /** The size of what the last read took, which its reader may still hold. */
    let held = 0;
    /** What was used and isn't given back yet. */
    let credit = 0;
    let trailers: Header[] = [];
    let gotHead = false;
    let gotEnd = false;
    let error: H2Error | undefined;
    let wake = nothing;

    /** Does what follows from a change. */
    const settle = () => {
      wake();
      wake = nothing;
      if ((error || (gotEnd && finished && !queue.length)) && streams.delete(id)) {
        endIfIdle();
        onroom();
      }
    };
    const abort = (code: number, what = frameFault(code)) => {
      frame(Type.RstStream, 0, id, octets(code));
      live.fail(new H2Error(what, code));
    };
    const giveBack = (size: number) => {
      if (!gotEnd && !error) {
        credit = give(id, credit + size, streamWindow);
      }
    };

    const live: Live = {
      turn() {
        const [write] = queue;
        if (!write) {
          return false;
        }
        const { bytes } = write;
        const size = Math.max(0, Math.min(bytes.length, window, sendWindow, maxFrameSize));
        const whole = size === bytes.length;
        if (!size && !whole) {
          return false;
        }
        window -= size;
        sendWindow -= size;
        frame(Type.Data, whole && write.end ? Flag.EndStream : 0, id, whole ? bytes : bytes.subarray(0, size));
        if (whole) {
          queue.shift();
          write.done();
          settle();
        } else {
          write.bytes = bytes.subarray(size);
        }
        return true;
      },
      grow(by, refuse = abort) {
        sendWindow = grown(sendWindow, by, refuse);
      },
      headers(list, end) {
        if (gotEnd) {
          abort(Code.StreamClosed);
        } else if (!list) {
          abort(Code.EnhanceYourCalm, tooLarge);
        } else if (
          !list.every(([name, value], i) =>
            i || gotHead ? name[0] !== ":" && valid(name, value) : name === ":status" && /^[1-9]\d\d$/.test(value),
          ) ||
          // Trailers end the stream, informational headers don't.
          (gotHead ? !end : !list[0] || (end && list[0][1] < "200"))
        ) {
          abort(Code.ProtocolError);
        } else if (gotHead || list[0]![1] > "199") {
          if (gotHead) {
            trailers = list;
          }
          gotHead = true;
          gotEnd = !!end;
          resolveHead(list);
          settle();
        }
      },
      data(payload, size, end) {
        if (gotEnd || !gotHead || unread.size() + held + credit + size > streamWindow) {
          abort(gotEnd ? Code.StreamClosed : gotHead ? Code.FlowControlError : Code.ProtocolError);
        } else {
          unread.add(payload);
          giveBack(size - payload.length);
          gotEnd = !!end;
          settle();
        }
      },
      fail(e) {
        // A server that has answered can't say that it didn't process the request.
        error = gotHead ? new H2Error(e.message, e.code, e.lost) : e;
        finished = true;
        rejectHead(e);
        for (const write of queue) {
          write.done(error);
        }
        queue = [];
        settle();
      },
    };
    streams.set(id, live);

    const read = (): Uint8Array | undefined | Promise<Uint8Array | undefined> => {
      giveBack(held);
      held = unread.size();
      if (held) {
        return unread.take();
      }
      if (gotEnd) {
        return undefined;
      }
      return error
        ? Promise.reject(error)
        : new Promise<void>((resolve) => {
            wake = resolve;
          }).then(read);
    };
    return {
      head,
      read,
      trailers: () => trailers,
      write(bytes, end) {
        if (!finished) {
          finished = end;
          const write: Write = { bytes, end, done: nothing };
          queue.push(write);
          // Other streams have had their turn, or their windows don't allow one.
          while (backlog() < maxPending && live.turn()) {}
          if (!error) {
            return queue.includes(write)
              ? new Promise((resolve, reject) => {
                  write.done = (error) => (error ? reject(error) : resolve());
                })
              : taken;
          }
        }
        return Promise.reject(error ?? new H2Error("closed by this end", Code.NoError));
      },
      reset(code) {
        if (streams.has(id)) {
          unread.take();
          gotEnd = false;
          abort(code, "reset by this end");
        }
      },
    };
  };

  const settings = (payload: Uint8Array) => {
    // By their identifiers (RFC 9113, section 6.5.2).
    const values: Record<number, number> & [0, 0, number, number, number, number] = [
      0,
      0,
      0,
      started ? maxStreams : max31,
      initialWindow,
      maxFrameSize,
    ];
    for (let at = 0; at < payload.length; at += 6) {
      values[u32(payload, at) >>> 16] = u32(payload, at + 2);
    }
    if (values[2] || values[4] > max31 || values[5] < maxFrameSize || values[5] >> 24) {
      bad(values[4] > max31 ? Code.FlowControlError : Code.ProtocolError);
    }
    maxStreams = values[3];
    for (const stream of values[4] === initialWindow ? [] : streams.values()) {
      stream.grow(values[4] - initialWindow, bad);
    }
    initialWindow = values[4];
    reply(Type.Settings, []); // and after it, what the windows allow now
    if (!started) {
      started = true;
      frame(Type.WindowUpdate, 0, 0, octets(connectionWindow - 65535));
      resolveReady();
    }
    onroom();
  };

  const onframe = (t: number, flags: number, i: number, payload: Uint8Array) => {
    type = t;
    id = i;
    size = payload.length;
    const stream = streams.get(id);
    const ack = flags & Flag.Ack;
    if (
      (!started && (type !== Type.Settings || ack)) ||
      (blockId
        ? type !== Type.Continuation || id !== blockId
        : // Bits of types: what can't come for a stream that isn't open, for one that is or was, for the connection.
          type < 10 && (1 << type) & (id ? (id & 1 && id < nextId ? 0b10_1111_0000 : 0b11_1111_1011) : 0b10_0010_1011))
    ) {
      bad(Code.ProtocolError);
    }
    if (
      type === Type.RstStream || type === Type.WindowUpdate
        ? size !== 4
        : type === Type.Ping
          ? size !== 8
          : type === Type.Goaway
            ? size < 8
            : type === Type.Settings && (ack ? size : size % 6)
    ) {
      bad(Code.FrameSizeError);
    }
    const value = u32(payload, 0);
    switch (type) {
      case Type.Data:
        credit = give(0, credit + size, connectionWindow);
        stream?.data(unpadded(payload, flags), size, flags & Flag.EndStream);
        break;
      case Type.Headers:
      case Type.Continuation:
        if (type === Type.Headers) {
          payload = unpadded(payload, flags);
          if (flags & Flag.Priority) {
            payload = payload.subarray(5);
          }
          blockId = id;
          blockEnd = flags & Flag.EndStream;
          blockSize = 0;
        }
        block.add(payload);
        blockSize += 9 + size;
        if (blockSize > maxBlock) {
          bad(Code.EnhanceYourCalm, tooLarge);
        }
        if (flags & Flag.EndHeaders) {
          blockId = 0;
          const list = decode(block.take());
          stream?.headers(list, blockEnd);
        }
        break;
      case Type.RstStream:
        stream?.fail(new H2Error(`reset by the server, code ${value}`, value, false, value === Code.RefusedStream ? "no" : "maybe"));
        break;
      case Type.Settings:
        if (!ack) {
          settings(payload);
        }
        break;
      case Type.Ping:
        if (!ack) {
          reply(Type.Ping, payload);
        }
        break;
      case Type.Goaway: {
        const code = u32(payload, 4);
        const e = new H2Error(`GOAWAY from the server, code ${code}: ${text(payload.subarray(8))}`, code, true, "no");
        leave(e);
        for (const [id, stream] of streams) {
          if (id > (value & max31)) {
            stream.fail(e);
          }
        }
        endIfIdle();
        break;
      }
      case Type.WindowUpdate:
        if (id) {
          stream?.grow(value & max31);
        } else {
          window = grown(window, value & max31, bad);
        }
        pump();
    }
  };

  const split = splitter(onframe, () => bad(Code.FrameSizeError, `frame of over ${maxFrameSize} bytes from the server`));
  pipe.onbytes = (bytes) => {
    if (!ended) {
      try {
        split(bytes);
      } catch (e) {
        const error = e as H2Error;
        if (!started) {
          error.message = `the server doesn't speak HTTP/2: ${error.message}`;
        }
        used = 0; // what hasn't left stays here
        goaway(error);
        end(error);
      }
    }
  };
  pipe.onend = (cause) => end(new H2Error(why ? `${cause}; ${why.message}` : cause, -1, true));
  pipe.ondrain = pump;
  pipe.write(raw(preface));

  return {
    ready,
    live: () => streams.size,
    room,
    open(headers, end) {
      if (!room()) {
        throw why ?? new H2Error("the server takes no more streams at once", Code.RefusedStream, false, "no");
      }
      return openStream(headers, end);
    },
    close() {
      if (!why) {
        why = new H2Error("closed by this end", Code.NoError, true, "no");
        goaway(why);
      }
      endIfIdle();
    },
  };
}
