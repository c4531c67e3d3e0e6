import type { DescMessage, DescMethod, MessageInitShape } from "@bufbuild/protobuf";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { type AnyRequest, type AnyResponse, call } from "./call.js";
import { type ConnectionState, type Connections, createConnections, unused } from "./connections.js";
import { Code, create, createContextValues, fault, faultOf, late } from "./peers.js";
import type { WebSocketConstructor } from "./pipe.js";
import type { Token, TokenSource } from "./session.js";

/** The options of {@link createCulvertTransport}. Those that are undefined count as unset. */
export interface CulvertTransportOptions {
  /** The server's URL, such as `https://app.example.com`; may be relative to the page. A path is the prefix of all methods' paths. */
  baseUrl: string;
  /** Wrap every call, also those by the fallback. The last one is innermost. */
  interceptors?: Interceptor[] | undefined;
  /** Takes unary calls and server streams where no WebSocket works. Its own interceptors run inside of these. */
  fallback?: Transport | undefined;
  /**
   * Is called before each call. Its result is sent as `authorization: Bearer …`, unless the call has an authorization of its own.
   * It is also called before the token of running streams expires, and culvert gets the new one for them.
   */
  token?: TokenSource | undefined;
  /** Is called before each WebSocket is opened, and returns the subprotocols to offer after `h2ts`. */
  protocols?: (() => string[] | Promise<string[]>) | undefined;
  /** The absolute URL that opens the WebSocket, if that isn't baseUrl. */
  socketUrl?: string | undefined;
  /** Opens WebSockets in place of the platform's, such as the one of the package ws. */
  webSocket?: WebSocketConstructor | undefined;
  /** The time that calls without a time-out of their own have, in milliseconds. If zero or unset, they have no deadline. */
  defaultTimeoutMs?: number | undefined;
  /** Whether to compress request messages of 1 KiB and more. Compressed responses are read in any case, where the platform can. */
  gzip?: boolean | undefined;
  /** The largest message to receive, in bytes, uncompressed. A larger one ends its call with ResourceExhausted. If unset, 16 MiB. */
  readMaxBytes?: number | undefined;
  /** The same for a message to send. */
  writeMaxBytes?: number | undefined;
  /** How long a connection without calls stays open. If unset, a minute. Of transports that share it, the first one's value counts. */
  idleTimeoutMs?: number | undefined;
}

/** Carries all calls in one WebSocket, or a few. */
export interface CulvertTransport extends Transport {
  /** The connection's state now. A change replaces the object. */
  readonly state: ConnectionState;
  /** Calls listener with the state, now and after each change. Returns a function that unsubscribes it. */
  subscribe(listener: (state: ConnectionState) => void): () => void;
  /**
   * Ends this transport's calls with Canceled, and closes the connection if no
   * other transport has calls there. May be called twice. A later call opens a
   * connection again, as React's StrictMode needs it.
   */
  close(): void;
}

type Input = MessageInitShape<DescMessage>;
type Inputs = AsyncIterable<Input>;

// The connections by the functions that set transports apart, and by URL. It is itself in place of a function that isn't there.
const shared = new WeakMap<object, WeakMap<object, Record<string, Connections>>>();

/**
 * Creates a transport for connect-es. Transports of one base URL share their
 * connections if they have the same function `token`, and the same function
 * `protocols` or, without that, the same `webSocket`.
 */
export function createCulvertTransport(options: CulvertTransportOptions): CulvertTransport {
  const { baseUrl, socketUrl, protocols, webSocket, interceptors = [], token, defaultTimeoutMs = 0, idleTimeoutMs = 60_000 } = options;
  const running = new Set<(reason: unknown) => void>();
  let url: URL;
  let connections: Connections | undefined;

  // Not before it is needed: where pages are rendered on a server, no relative URL can be resolved.
  const connect = () => {
    if (!connections) {
      // Without a query and a fragment, and with a slash at its end.
      url = new URL(new Request(baseUrl.replace(/^ws(?=s?:)/, "http")).url.replace(/\/?([?#].*)?$/, "/"));
      const socket = (socketUrl ?? url.href).replace(/^http/, "ws");
      const key = protocols ?? webSocket ?? shared;
      const group = shared.get(token ?? shared) ?? new WeakMap();
      const alike = group.get(key) ?? {};
      shared.set(token ?? shared, group.set(key, alike));
      connections = alike[socket] ??= createConnections(
        socket,
        webSocket ?? (globalThis.WebSocket as WebSocketConstructor),
        protocols,
        idleTimeoutMs,
      );
    }
    return connections;
  };

  // connect-es has runUnaryCall and runStreamingCall for this. The latter keeps 350 bytes for each message until the
  // call ends in version 2.3.0, and the client's break doesn't end the call before that version.
  const run = async (
    stream: boolean,
    method: DescMethod,
    signal: AbortSignal | undefined,
    timeoutMs = defaultTimeoutMs,
    header: HeadersInit | undefined,
    input: unknown,
    contextValues = createContextValues(),
  ): Promise<AnyResponse> => {
    const controller = new AbortController();
    const ending = controller.signal;
    let inputs: AsyncIterator<Input> | undefined;
    const end = (reason: unknown = null) => {
      if (running.delete(end)) {
        clearTimeout(timer);
        controller.abort(reason);
        // Of inputs that aren't generators, it may throw or return no promise.
        (async () => inputs?.return?.())().catch(() => {});
      }
    };
    const abort = () => end(faultOf(signal?.reason, Code.Canceled));
    const fail = (e: unknown): never => {
      end(faultOf(e));
      throw faultOf(ending.reason);
    };
    const deadline = timeoutMs > 0 ? performance.now() + timeoutMs : 0;
    // A timer takes no more than 2^31 - 1 ms. The server keeps longer deadlines.
    const timer = deadline && timeoutMs < 2e9 ? setTimeout(() => end(late()), timeoutMs) : undefined;

    running.add(end);
    signal?.addEventListener("abort", abort, { signal: ending });
    try {
      // Once: a ReadableStream gives no second one, and a second generator isn't the one that runs.
      inputs = stream ? (input as Inputs)[Symbol.asyncIterator]() : undefined;
      if (signal?.aborted) {
        abort();
      }
      ending.throwIfAborted();
      const link = connect();
      const last = async (request: AnyRequest): Promise<AnyResponse> => {
        const metadata = new Headers(request.header);
        const newest = await token?.();
        const found = metadata.has("authorization") ? undefined : newest;
        const bearer = (found as Token | undefined)?.token ?? found;
        if (bearer) {
          metadata.set("authorization", `Bearer ${bearer}`);
        }
        return call(link, options, url, request, metadata, () => token && found && link.renew(found, token, call, url), deadline, ending);
      };
      const next = interceptors.reduceRight((next, interceptor) => interceptor(next), last);
      const response = await Promise.race([
        next({
          stream,
          method,
          message: inputs ? whole(method.input, inputs) : create(method.input, input as Input),
          service: method.parent,
          requestMethod: "POST",
          url: `${url.href}${method.parent.typeName}/${method.name}`,
          header: new Headers(header),
          contextValues,
          signal: ending,
        } as AnyRequest),
        // Behind the call: if an interceptor throws at once, nobody would take this one's rejection.
        new Promise<never>((_, reject) => {
          ending.addEventListener("abort", () => reject(ending.reason));
        }),
      ]);
      if (!response.stream) {
        end();
        return response;
      }
      const messages = async function* () {
        try {
          yield* response.message;
        } catch (e) {
          fail(e);
        } finally {
          end();
        }
      };
      return { ...response, message: messages() };
    } catch (e) {
      return fail(e);
    }
  };

  return {
    // biome-ignore lint/suspicious/noExplicitAny: the response is of the method's types
    unary: run.bind(null, false) as any,
    // biome-ignore lint/suspicious/noExplicitAny: the response is of the method's types
    stream: run.bind(null, true) as any,
    get state() {
      return connections?.state() ?? unused;
    },
    subscribe: (listener) => connect().subscribe(listener),
    close() {
      for (const end of running) {
        end(fault(Code.Canceled, "the transport was closed"));
      }
      connections?.close();
    },
  };
}

/** Messages with all their fields, as interceptors and the encoder want them. */
async function* whole(schema: DescMessage, inputs: AsyncIterator<Input>) {
  for await (const message of { [Symbol.asyncIterator]: () => inputs }) {
    yield create(schema, message);
  }
}
