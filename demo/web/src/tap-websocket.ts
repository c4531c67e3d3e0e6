import { createFrameReader, headerBytes, parseBlock } from "./frame.ts";
import { lines, type Recorder, type WireLog } from "./wire-log.ts";

// The first byte of each message from the client, once the headers are sent.
const markerData = 0;

/**
 * Replaces the browser's WebSocket by one that records its messages. The
 * published client creates its own WebSocket, so this is the place to record.
 */
export function tapWebSockets(log: WireLog): void {
  globalThis.WebSocket = class extends WebSocket {
    #recorder: Recorder;
    #headersSent = false;

    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      const recorder = log.begin("grpc-websockets", String(url));
      this.#recorder = recorder;
      recorder.event(
        "out",
        "handshake",
        undefined,
        `GET ${new URL(url).pathname}\nupgrade: websocket\nsec-websocket-protocol: ${[protocols].flat().join(", ")}`,
      );
      const read = createFrameReader();
      this.addEventListener("open", () =>
        recorder.event("in", "handshake", undefined, `101 Switching Protocols\nsec-websocket-protocol: ${this.protocol}`),
      );
      this.addEventListener("message", ({ data }) => {
        const raw = new Uint8Array(data);
        for (const frame of read(raw)) {
          recorder.frame(frame, raw);
        }
      });
      this.addEventListener("close", ({ code, reason }) => {
        recorder.event("in", code === 1006 ? "cut" : "close", undefined, `${code} ${reason}`.trim());
        recorder.end();
      });
    }

    override send(data: Parameters<WebSocket["send"]>[0]): void {
      super.send(data);
      const view = data as ArrayBufferView; // grpc-websockets sends nothing else
      const raw = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
      if (!this.#headersSent) {
        this.#headersSent = true;
        const fields = parseBlock(raw);
        this.#recorder.requestHeaders(fields);
        this.#recorder.event("out", "headers", raw, lines(fields));
      } else if (raw[0] === markerData) {
        this.#recorder.message("out", raw, raw.subarray(1 + headerBytes));
      } else {
        this.#recorder.event("out", "half-close", raw);
      }
    }
  };
}
