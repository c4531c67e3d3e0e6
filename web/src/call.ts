import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import type { ConnectError, ContextValues, StreamRequest, StreamResponse, UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import { type Connections, ended } from "./connections.js";
import { addFields, checkHeader, checkSize, checkStatus, convert, frame, requestFields, retryDelay } from "./grpc.js";
import { joined, u32 } from "./h2/bytes.js";
import { H2Error, type Stream } from "./h2/index.js";
import { cancel, keep } from "./limits.js";
import { Code, fault, faultOf, fromBinary, late, toBinary } from "./peers.js";
import type { CulvertTransportOptions } from "./transport.js";

/** A message of any type. */
export type Message = MessageShape<DescMessage>;
type AnyCall = (
  method: DescMethod,
  signal: AbortSignal,
  timeoutMs: number,
  header: Headers,
  message: AnyRequest["message"],
  contextValues: ContextValues,
) => Promise<AnyResponse>;
/** What an interceptor gets. */
export type AnyRequest = UnaryRequest | StreamRequest;
/** What an interceptor returns. */
export type AnyResponse = UnaryResponse | StreamResponse;

/**
 * Runs one call, below the interceptors: on a stream of a connection, again on
 * another one if the server certainly didn't process it, or by the fallback.
 *
 * @param header is the request's metadata, with what the transport adds.
 * @param begun is called when a stream has begun.
 * @param deadline is in milliseconds, like performance.now(); 0 if there is none.
 * @param ending is aborted at the end of the call; an interceptor may have put another signal in its place.
 */
export async function call(
  connections: Pick<Connections, "take" | "block">,
  options: Pick<CulvertTransportOptions, "fallback" | "readMaxBytes" | "writeMaxBytes" | "gzip">,
  url: URL,
  request: AnyRequest,
  header: Headers,
  begun: () => void,
  deadline: number,
  ending: AbortSignal,
): Promise<AnyResponse> {
  const { method } = request;
  const signal = request.signal === ending ? ending : AbortSignal.any([request.signal, ending]);
  const { fallback, readMaxBytes = 1 << 24, writeMaxBytes = 1 << 24 } = options;
  const gzip = options.gzip && !!globalThis.CompressionStream;
  const single = !request.stream || method.methodKind === "server_streaming";
  const parts: Promise<Uint8Array | undefined>[] = [];
  const messages = request.stream ? request.message[Symbol.asyncIterator]() : [request.message].values();
  let stream: Stream | undefined;
  let size = 0;
  let failure: ConnectError | undefined;
  let last: Message;
  const stop = () => stream?.reset(cancel);

  /** The next message of the request, framed; undefined at its end. */
  const next = async () => {
    const { done, value } = await messages.next();
    if (done) {
      return;
    }
    last = value;
    let bytes: Uint8Array = toBinary(method.input, value);
    checkSize(bytes.length, writeMaxBytes, "writeMaxBytes");
    const compress = gzip && bytes.length > 1023;
    if (compress) {
      bytes = await convert(bytes, new CompressionStream("gzip"), 1 << 30);
    }
    size += bytes.length + 64; // with what holds it
    return frame(bytes, compress ? 1 : 0);
  };

  /** The one message of a server stream, also after a stream has taken it. */
  async function* replay() {
    parts[0] ??= next();
    if (await parts[0]) {
      yield last;
    }
  }

  /** Sends the request, from its beginning. Never rejects. */
  const send = async (to: Stream) => {
    try {
      for (let i = 0; ; i++) {
        parts[i] ??= next();
        const part = await parts[i];
        await to.write(part ?? new Uint8Array(), single || !part);
        if (single || !part) {
          return;
        }
        if (size > keep) {
          delete parts[i];
        }
      }
    } catch (e) {
      // An H2Error means that the stream has ended. The response has the reason.
      if (!(e instanceof H2Error)) {
        failure = faultOf(e);
        to.reset(cancel);
      }
    }
  };

  /** Makes the call's error of what was thrown. */
  const explain = (e: unknown): ConnectError => {
    if (signal.aborted) {
      return faultOf(signal.reason, Code.Canceled);
    }
    if (failure) {
      return failure;
    }
    if (deadline && performance.now() >= deadline) {
      return late(); // a server may notice before this program's timer runs
    }
    if (e instanceof H2Error) {
      // gRPC PROTOCOL-HTTP2, "Errors"
      const codes: Record<number, Code> = {
        7: Code.Unavailable,
        8: Code.Canceled,
        11: Code.ResourceExhausted,
        12: Code.PermissionDenied,
      };
      return ended(e.message, e.sent, e.lost ? Code.Unavailable : (codes[e.code] ?? Code.Internal));
    }
    return faultOf(e, Code.Internal);
  };

  /** The messages of the response. */
  async function* receive(from: Stream, header: Headers, trailer: Headers) {
    const unread = joined();
    let bytes: Uint8Array = new Uint8Array();
    /** Reads until `bytes` has that size. Returns false if the response ends before the next message. */
    const fill = async (size: number) => {
      if (bytes.length < size) {
        unread.add(bytes);
        while (unread.size() < size) {
          const part = await from.read();
          if (!part) {
            if (unread.size()) {
              throw fault(Code.Internal, "the response ends mid-message");
            }
            return false;
          }
          unread.add(part);
        }
        bytes = unread.take();
      }
      return true;
    };
    try {
      while (bytes.length > 4 || (await fill(5))) {
        const flag = bytes[0];
        const length = u32(bytes, 1);
        const end = length + 5;
        checkSize(length, readMaxBytes, "readMaxBytes");
        if (bytes.length < end) {
          await fill(end);
        }
        let message = bytes.subarray(5, end);
        bytes = bytes.subarray(end);
        if (flag) {
          if (flag !== 1 || header.get("grpc-encoding") !== "gzip") {
            throw fault(Code.Internal, `a message has flag ${flag} and grpc-encoding ${header.get("grpc-encoding")}`);
          }
          message = length ? await convert(message, new DecompressionStream("gzip"), readMaxBytes) : message;
        }
        signal.throwIfAborted();
        yield fromBinary(method.output, message);
      }
      addFields(trailer, from.trailers());
      checkStatus(trailer, header);
    } catch (e) {
      throw explain(e);
    } finally {
      from.reset(cancel);
    }
  }

  signal.addEventListener("abort", stop);
  /** The milliseconds that are left; 0 without a deadline. */
  const left = () => deadline && Math.max(1, Math.ceil(deadline - performance.now()));
  let handed = false;
  for (let tries = 1; ; tries++) {
    try {
      const taken = await connections.take(
        (connection) => {
          // At once: an abort before the promise resolves must find it.
          stream = connection.open(requestFields(url, method, header, left(), gzip));
          begun();
          return stream;
        },
        signal,
        fallback && single,
      );
      if (!taken) {
        handed = true;
        const by = fallback as unknown as { unary: AnyCall; stream: AnyCall };
        const response = await by[request.stream ? "stream" : "unary"](
          method,
          signal,
          Math.min(left(), 1e8 - 1), // gRPC-Web's has at most eight digits, and a timer 31 bits
          header,
          request.stream ? replay() : request.message,
          request.contextValues,
        );
        connections.block();
        return response;
      }
      void send(taken);
      const head = await taken.head;
      const leading = new Headers();
      const trailer = new Headers();
      addFields(leading, head);
      checkHeader(leading, head[0]?.[1]);
      const replies = receive(taken, leading, trailer);
      const message = request.stream ? replies : await only(replies);
      return { service: method.parent, method, stream: request.stream, header: leading, trailer, message } as AnyResponse;
    } catch (e) {
      stop();
      const error = explain(e);
      const pause = e instanceof H2Error ? (e.sent === "no" ? 0 : Infinity) : retryDelay(error);
      if (handed && error.metadata.has("content-type")) {
        connections.block(); // the fallback's server has answered
      }
      if (handed || signal.aborted || failure || pause > 3e4 || tries > 4 || (size > keep && !single)) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, pause + Math.random() * 50 * 2 ** tries));
    }
  }
}

/** The one message of a unary call's response. */
async function only(messages: AsyncIterable<Message>): Promise<Message> {
  let found: Message | undefined;
  let count = 0;
  for await (found of messages) {
    if (++count > 1) {
      break;
    }
  }
  if (count !== 1) {
    throw fault(Code.Unimplemented, `the response has ${count} messages, not one`);
  }
  return found as Message;
}
