import { createFrameReader, type Field, headerBytes, rawFrame } from "./frame.ts";
import { lines, type WireLog } from "./wire-log.ts";

/** Returns a fetch for a gRPC-Web client that records the call. */
export function tapFetch(log: WireLog): typeof fetch {
  return async (input, init) => {
    const recorder = log.begin("grpc-web", String(input));
    const request = [...new Headers(init?.headers)];
    const body = init?.body as Uint8Array<ArrayBuffer>; // gRPC-Web clients send one whole body
    recorder.requestHeaders(request);
    recorder.event("out", "headers", undefined, lines([[":request", `POST ${new URL(String(input)).pathname}`], ...request]));
    recorder.message("out", body, body.subarray(headerBytes));
    const lost = (cause: unknown) => {
      if (init?.signal?.aborted) {
        recorder.event("out", "cancel");
      } else {
        recorder.event("in", "cut", undefined, String(cause));
      }
      recorder.end();
    };
    const response = await fetch(input, init).catch((cause: unknown) => {
      lost(cause);
      throw cause;
    });
    const headers: Field[] = [...response.headers];
    recorder.headers(headers);
    recorder.event("in", "headers", undefined, lines([[":status", `${response.status} ${response.statusText}`.trim()], ...headers]));
    const read = createFrameReader();
    const tap = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        controller.enqueue(chunk);
        for (const frame of read(chunk)) {
          recorder.frame(frame, rawFrame(frame));
        }
      },
      flush: () => recorder.end(),
    });
    response.body?.pipeTo(tap.writable).catch(lost); // such a stream never reaches flush
    return new Response(response.body && tap.readable, response);
  };
}
