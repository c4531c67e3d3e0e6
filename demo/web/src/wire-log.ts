import type { JsonValue } from "@bufbuild/protobuf";
import { describeMessage, readStatus, type WireStatus } from "./describe.ts";
import { blockFlag, type Field, type Frame, parseBlock } from "./frame.ts";

/** Something that was sent or received, or that ended the call. */
export interface WireEvent {
  atMs: number; // since the call began
  direction: "out" | "in";
  kind: "handshake" | "headers" | "message" | "half-close" | "trailers" | "close" | "cancel" | "cut";
  raw: Uint8Array; // the bytes, or none if the browser doesn't show them
  content: JsonValue | undefined; // decoded
}

/** One call, as it was on the wire. */
export interface WireCall {
  id: number;
  transport: "h2ts" | "grpc-web";
  carrier: { socket: number; stream: number } | undefined; // which WebSocket of the page, and which HTTP/2 stream there
  path: string;
  origin: string;
  begunAt: number;
  durationMs: number | undefined; // undefined while it runs
  events: WireEvent[];
  bytesOut: number;
  bytesIn: number;
  requestHeaders: readonly Field[];
  headers: readonly Field[];
  trailers: readonly Field[];
  status: WireStatus | undefined;
}

/** Records one call, for a tap. */
export interface Recorder {
  readonly call: WireCall;
  /** Takes a time of performance.now(), the present one by default. */
  event(direction: "out" | "in", kind: WireEvent["kind"], raw?: Uint8Array, content?: JsonValue, at?: number): void;
  message(direction: "out" | "in", raw: Uint8Array, payload: Uint8Array): void;
  requestHeaders(fields: readonly Field[]): void;
  headers(fields: readonly Field[]): void;
  trailers(fields: readonly Field[], raw: Uint8Array): void;
  /** Says which stream of which WebSocket carries the call. */
  carried(socket: number, stream: number): void;
  /** Records a frame from the server: a message or trailers. */
  frame(frame: Frame, raw: Uint8Array): void;
  end(): void;
}

export interface WireLog {
  readonly calls: readonly WireCall[];
  begin(transport: WireCall["transport"], url: string): Recorder;
  /** Calls the listener after each change, with the event that was added, if any. */
  subscribe(listener: (call: WireCall, event: WireEvent | undefined) => void): void;
}

const maxCalls = 30;

export function createWireLog(): WireLog {
  const calls: WireCall[] = [];
  const listeners: ((call: WireCall, event: WireEvent | undefined) => void)[] = [];
  let lastId = 0;

  function begin(transport: WireCall["transport"], url: string): Recorder {
    const { pathname, origin } = new URL(url);
    lastId++;
    const call: WireCall = {
      id: lastId,
      transport,
      carrier: undefined,
      path: pathname,
      origin,
      begunAt: performance.now(),
      durationMs: undefined,
      events: [],
      bytesOut: 0,
      bytesIn: 0,
      requestHeaders: [],
      headers: [],
      trailers: [],
      status: undefined,
    };
    calls.unshift(call);
    calls.length = Math.min(calls.length, maxCalls);
    const changed = (event?: WireEvent) => {
      for (const listener of listeners) {
        listener(call, event);
      }
    };
    const recorder: Recorder = {
      call,
      carried(socket, stream) {
        call.carrier = { socket, stream };
        changed();
      },
      event(direction, kind, raw = new Uint8Array(0), content = undefined, at = performance.now()) {
        const event = { atMs: at - call.begunAt, direction, kind, raw, content };
        call.events.push(event);
        if (direction === "out") {
          call.bytesOut += raw.length;
        } else {
          call.bytesIn += raw.length;
        }
        changed(event);
      },
      message(direction, raw, payload) {
        recorder.event(direction, "message", raw, describeMessage(call.path, direction, payload));
      },
      requestHeaders(fields) {
        call.requestHeaders = fields;
      },
      headers(fields) {
        call.headers = fields;
      },
      trailers(fields, raw) {
        call.trailers = fields;
        call.status = readStatus(fields);
        recorder.event("in", "trailers", raw, lines(fields));
      },
      frame(frame, raw) {
        if ((frame.flags & blockFlag) === 0) {
          recorder.message("in", raw, frame.payload);
          return;
        }
        recorder.trailers(parseBlock(frame.payload), raw);
      },
      end() {
        call.durationMs ??= performance.now() - call.begunAt;
        changed();
      },
    };
    changed();
    return recorder;
  }

  return { calls, begin, subscribe: (listener) => void listeners.push(listener) };
}

export function lines(fields: readonly Field[]): string {
  return fields.map(([name, value]) => `${name}: ${value}`).join("\n");
}
