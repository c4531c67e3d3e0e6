// What a WebSocket with HTTP/2 and gRPC inside carries, in words: a browser's developer tools show bytes.

import { u32 } from "./h2/bytes.js";
import { Flag, splitter, Type } from "./h2/frames.js";
import { decoder } from "./h2/hpack.js";
import type { WebSocketConstructor } from "./pipe.js";

/** The options of {@link trace}. */
export interface TraceOptions {
  /** Takes each line. If unset, console.debug. */
  print?: ((line: string) => void) | undefined;
  /** Opens the WebSockets. If unset, the platform's. */
  webSocket?: WebSocketConstructor | undefined;
}

// RFC 9113, section 7.
const codes =
  "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED".split(
    " ",
  );
// RFC 9113, section 6.5.2, from 1 on.
const settings = "HEADER_TABLE_SIZE ENABLE_PUSH MAX_CONCURRENT_STREAMS INITIAL_WINDOW_SIZE MAX_FRAME_SIZE MAX_HEADER_LIST_SIZE".split(" ");
const statuses =
  "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED".split(
    " ",
  );
/** The fields whose values are no secret. */
const shown = /^(:status|content-type|grpc-(timeout|encoding|accept-encoding|status|message)|x-request-id)$/;
/** What the client sends before its first frame (RFC 9113, section 3.4). */
const prefaceLength = 24;

let sockets = 0;

/**
 * Returns a constructor of WebSockets for createCulvertTransport's webSocket
 * that prints what they carry. Of metadata it prints the names, and the values
 * of gRPC's own, so that no token is printed.
 */
export function trace({
  print = (line) => console.debug(line),
  webSocket = globalThis.WebSocket,
}: TraceOptions = {}): WebSocketConstructor {
  return class extends webSocket {
    #sent: (bytes: Uint8Array) => void;

    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      const name = `#${++sockets}`;
      const began = performance.now();
      const say = (text: string) => print(`${name} ${((performance.now() - began) / 1000).toFixed(3)} s: ${text}`);
      say(`opens ${url.replace(/\?.*/, "?…")}, offers h2ts${protocols.length > 1 ? ` and ${protocols.length - 1} more` : ""}`);
      this.addEventListener("open", () => say(`open, with ${this.protocol || "no subprotocol"}`));
      this.addEventListener("error", () => say("error"));
      this.addEventListener("close", ({ code, reason }) => say(`closed with ${code} ${reason}`));
      const methods = new Map<number, string>();
      const came = reader(
        (text) => say(`← ${text}`),
        methods,
        (id) => methods.delete(id),
      );
      const went = reader((text) => say(`→ ${text}`), methods);
      let preface = prefaceLength;
      this.#sent = (bytes) => {
        went(bytes.subarray(preface));
        preface = Math.max(0, preface - bytes.length);
      };
      this.addEventListener("message", ({ data }) => came(new Uint8Array(data)));
    }

    override send(data: Uint8Array<ArrayBuffer>) {
      this.#sent(data);
      super.send(data);
    }
  };
}

/** Makes a function that tells what one direction's bytes mean. */
function reader(say: (text: string) => void, methods: Map<number, string>, onend?: (id: number) => void): (bytes: Uint8Array) => void {
  const decode = decoder();
  const messages = new Map<number, (bytes: Uint8Array) => void>();
  let block: number[] = [];
  let blockEnd = 0;
  const name = (id: number) => (id ? `stream ${id}${methods.has(id) ? ` (${methods.get(id)})` : ""}` : "connection");

  const header = (id: number) => {
    const fields = decode(Uint8Array.from(block));
    block = [];
    if (!fields) {
      return say(`${name(id)}: header of more than 64 KiB`);
    }
    const value = (key: string) => fields.find(([k]) => k === key)?.[1];
    const path = value(":path");
    if (path) {
      methods.set(id, path);
    }
    const status = value("grpc-status");
    const rest = fields.filter(([k]) => path === undefined || k[0] !== ":").map(([k, v]) => (shown.test(k) ? `${k}: ${v}` : k));
    const what = status ? `ends with ${statuses[Number(status)] ?? status}` : path ? "begins" : blockEnd ? "ends" : "header";
    say(`${name(id)}: ${what}; ${rest.join(", ")}`);
  };

  const frame = (type: number, flags: number, id: number, payload: Uint8Array) => {
    const end = type < 2 && flags & Flag.EndStream ? ", and ends" : "";
    const padding = type < 2 && flags & Flag.Padded ? (payload[0] ?? 0) + 1 : 0;
    const content = padding ? payload.subarray(1, payload.length - padding + 1) : payload;
    switch (type) {
      case Type.Data: {
        let take = messages.get(id);
        if (!take) {
          take = lengths((size, flag) => say(`${name(id)}: message of ${size} bytes${flag ? ", compressed" : ""}`));
          messages.set(id, take);
        }
        take(content);
        if (end) {
          say(`${name(id)}: half-close`);
        }
        break;
      }
      case Type.Headers:
        blockEnd = flags & Flag.EndStream;
        block.push(...content.subarray(flags & Flag.Priority ? 5 : 0));
        break;
      case Type.Continuation:
        block.push(...content);
        break;
      case Type.RstStream:
        say(`${name(id)}: reset with ${codes[u32(payload, 0)] ?? u32(payload, 0)}`);
        break;
      case Type.Settings: {
        const list: string[] = [];
        for (let at = 0; at + 6 <= payload.length; at += 6) {
          const key = u32(payload, at) >>> 16;
          list.push(`${settings[key - 1] ?? key} ${u32(payload, at + 2)}`);
        }
        say(flags & Flag.Ack ? "takes the SETTINGS" : `SETTINGS ${list.join(", ")}`);
        break;
      }
      case Type.Ping:
        say(flags & Flag.Ack ? "answers the PING" : "PING");
        break;
      case Type.Goaway:
        say(
          `GOAWAY with ${codes[u32(payload, 4)] ?? u32(payload, 4)} after stream ${u32(payload, 0) & 0x7fffffff} ${new TextDecoder().decode(payload.slice(8))}`,
        );
        break;
      case Type.WindowUpdate:
        say(`${name(id)}: window grows by ${u32(payload, 0)} bytes`);
        break;
      default:
        say(`${name(id)}: frame of type ${type}`);
    }
    if ((type === Type.Headers || type === Type.Continuation) && flags & Flag.EndHeaders) {
      header(id);
    }
    if (type === Type.RstStream || end) {
      messages.delete(id);
      onend?.(id);
    }
  };
  const frames = splitter(frame, () => {
    throw new Error("a frame is too large");
  });
  let broken = false;
  return (bytes) => {
    try {
      broken || frames(bytes);
    } catch (e) {
      broken = true;
      say(`can't be read any further: ${e}`);
    }
  };
}

/** Makes a function that takes a stream's bytes and calls found for each message's prefix. */
function lengths(found: (size: number, flag: number) => void): (bytes: Uint8Array) => void {
  let prefix: number[] = [];
  let skip = 0;
  return (bytes) => {
    for (let at = 0; at < bytes.length; ) {
      if (skip) {
        const step = Math.min(skip, bytes.length - at);
        skip -= step;
        at += step;
      } else {
        prefix.push(bytes[at++] ?? 0);
        if (prefix.length === 5) {
          skip = u32(Uint8Array.from(prefix), 1);
          found(skip, prefix[0] ?? 0);
          prefix = [];
        }
      }
    }
  };
}
