import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { u32 } from "../../../web/src/h2/bytes.ts";
import { Flag, splitter, Type } from "../../../web/src/h2/frames.ts";
import { decoder } from "../../../web/src/h2/hpack.ts";
import { createFrameReader, type Field, rawFrame } from "./frame.ts";
import { lines, type Recorder, type WireLog } from "./wire-log.ts";

/** The metadata that tells which stream carries a call. */
const callField = "x-demo-call";

// The client's first bytes (RFC 9113, section 3.4).
const prefaceBytes = 24;

/** Returns options for createCulvertTransport that record its calls. */
export function tapH2ts(log: WireLog) {
  const recorders = new Map<string, Recorder>();
  let sockets = 0;

  const interceptor: Interceptor = (next) => async (request) => {
    const recorder = log.begin("h2ts", request.url);
    const key = String(recorder.call.id);
    recorders.set(key, recorder);
    request.header.set(callField, key);
    const end = () => {
      recorders.delete(key);
      recorder.end();
    };
    const lost = (cause: unknown) => {
      if (recorder.call.status === undefined) {
        recorder.event("in", "cut", undefined, String(cause));
      }
      end();
    };
    async function* watch(messages: StreamResponse["message"]) {
      try {
        yield* messages;
      } catch (cause) {
        lost(cause);
        throw cause;
      } finally {
        end();
      }
    }
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: watch(response.message) } : response;
    } catch (cause) {
      lost(cause);
      throw cause;
    }
  };

  const webSocket = class extends WebSocket {
    #sent: (bytes: Uint8Array) => void;

    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      sockets++;
      const socket = sockets;
      const accepted = () => this.protocol;
      const created = performance.now();
      let opened = created;
      this.addEventListener("open", () => {
        opened = performance.now();
      });
      const streams = new Map<number, Stream>();

      const sent = readFrames({
        header(id, fields, raw) {
          const recorder = recorders.get(fields.find(([name]) => name === callField)?.[1] ?? "");
          if (recorder === undefined) {
            return;
          }
          streams.set(id, { recorder, sent: createFrameReader(), received: createFrameReader() });
          recorder.carried(socket, id);
          if (recorder.call.begunAt <= created) {
            recorder.event(
              "out",
              "handshake",
              undefined,
              `GET ${new URL(url).pathname}\nupgrade: websocket\nsec-websocket-protocol: ${protocols.join(", ")}`,
              created,
            );
            recorder.event("in", "handshake", undefined, `101 Switching Protocols\nsec-websocket-protocol: ${accepted()}`, opened);
          } else {
            recorder.event("out", "handshake", undefined, `none: WebSocket ${socket} is open, and this is its stream ${id}`);
          }
          recorder.requestHeaders(fields);
          recorder.event("out", "headers", raw, lines(fields));
        },
        data(id, bytes, end) {
          const stream = streams.get(id);
          for (const frame of stream?.sent(bytes) ?? []) {
            stream?.recorder.message("out", rawFrame(frame), frame.payload);
          }
          if (end) {
            stream?.recorder.event("out", "half-close");
          }
        },
        reset(id) {
          streams.get(id)?.recorder.event("out", "cancel");
          streams.delete(id);
        },
      });
      let preface = prefaceBytes;
      this.#sent = (bytes) => {
        sent(bytes.subarray(preface));
        preface = Math.max(0, preface - bytes.length);
      };

      const received = readFrames({
        header(id, fields, raw, end) {
          const recorder = streams.get(id)?.recorder;
          if (end) {
            recorder?.trailers(fields, raw);
            streams.delete(id);
          } else {
            recorder?.headers(fields);
            recorder?.event("in", "headers", raw, lines(fields));
          }
        },
        data(id, bytes) {
          const stream = streams.get(id);
          for (const frame of stream?.received(bytes) ?? []) {
            stream?.recorder.message("in", rawFrame(frame), frame.payload);
          }
        },
        reset: (id) => streams.delete(id), // the client's error tells it
      });
      this.addEventListener("message", ({ data }) => received(new Uint8Array(data)));
    }

    override send(data: Uint8Array<ArrayBuffer>): void {
      this.#sent(data);
      super.send(data);
    }
  };

  return { interceptors: [interceptor], webSocket };
}

interface Stream {
  recorder: Recorder;
  sent: ReturnType<typeof createFrameReader>;
  received: ReturnType<typeof createFrameReader>;
}

/** What streams carry in one direction. */
interface Frames {
  header(id: number, fields: readonly Field[], raw: Uint8Array, end: boolean): void;
  data(id: number, bytes: Uint8Array, end: boolean): void;
  reset(id: number, code: number): void;
}

/** Returns a function that takes the bytes of one direction. */
function readFrames(to: Frames): (bytes: Uint8Array) => void {
  const decode = decoder();
  let block: number[] = [];
  let end = false;
  return splitter(
    (type, flags, id, payload) => {
      const hasPadding = (type === Type.Data || type === Type.Headers) && (flags & Flag.Padded) !== 0;
      const content = hasPadding ? payload.subarray(1, payload.length - (payload[0] ?? 0)) : payload;
      if (type === Type.Data) {
        to.data(id, content, (flags & Flag.EndStream) !== 0);
      } else if (type === Type.RstStream) {
        to.reset(id, u32(payload, 0));
      } else if (type === Type.Headers || type === Type.Continuation) {
        if (type === Type.Headers) {
          end = (flags & Flag.EndStream) !== 0;
        }
        block.push(...content.subarray(type === Type.Headers && (flags & Flag.Priority) !== 0 ? 5 : 0));
        if ((flags & Flag.EndHeaders) !== 0) {
          const raw = Uint8Array.from(block);
          block = [];
          to.header(id, decode(raw) ?? [], raw, end);
        }
      }
    },
    () => {
      throw new Error("the peer sent a frame of more than 16 KiB");
    },
  );
}
