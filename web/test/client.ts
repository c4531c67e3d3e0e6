// What the tests of calls share: a client of the backend's service Probe (e2e/probe), whose
// behaviour each call's metadata tells.

import { type CallOptions, type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { type CulvertTransport, type CulvertTransportOptions, createCulvertTransport } from "../src/index.js";
import { Probe, type Reply, type Request } from "./gen/probe_pb.js";
import { control, env, equal, rejects } from "./harness.js";

/** How the backend behaves in a call: e2e/probe/script.go. */
export interface Script {
  header?: Field[];
  header_early?: boolean;
  replies_first?: boolean;
  read?: "one" | "none";
  read_every_ms?: number;
  echo?: boolean;
  replies?: number;
  reply_every_ms?: number;
  reply_bytes?: number;
  hold_after?: number;
  hold_all?: boolean;
  echo_metadata?: boolean;
  empty_replies?: boolean;
  hang?: boolean;
  trailer?: Field[];
  code?: number;
  message?: string;
  details?: string[];
  rich?: boolean;
}

interface Field {
  name: string;
  value?: string;
  /** In base64. */
  bytes?: string;
}

/** What the backend saw of a call: e2e/probe/record.go. */
export interface Record {
  attempts: number;
  encoding: string;
  timeout: number;
  received: number;
  received_bytes: number;
  half_closed: boolean;
  fault: string;
  sent: number;
  sent_bytes: number;
  cause: string;
  code: string;
}

let calls = 0;

/** The options of a call with a script, and what the backend knows of it. */
export function scripted(script: Script, options: CallOptions = {}) {
  const id = `${env.place}-${++calls}-${Date.now()}`;
  const headers = new Headers(options.headers);
  const text = JSON.stringify({ any_payload: true, ...script }).replace(
    /[^ -~]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  headers.set("probe-script", text);
  headers.set("probe-id", id);
  const record = (wait: string) => control<Record>("/record", { id, wait });
  return {
    options: { ...options, headers },
    /** Resolves once the call has come to a state. */
    began: () => record("began"),
    cancelled: () => record("cancelled"),
    ended: () => record("ended"),
    now: () => record("now"),
    /** Sends the replies that hold_after and hold_all hold back. */
    release: () => control("/release", { id }),
  };
}

/**
 * Has a call that never ends run into its deadline. On a busy machine that may pass before the backend has the call: it is
 * made again then, with twice the time.
 */
export async function overdue(timeoutMs: number, make: (options: CallOptions) => Promise<unknown>, script: Script = {}) {
  for (let most = timeoutMs; ; most *= 2) {
    const call = scripted({ hang: true, ...script }, { timeoutMs: most });
    equal((await rejects(make(call.options), ConnectError)).code, Code.DeadlineExceeded);
    if ((await call.now()).attempts > 0) {
      return call;
    }
  }
}

export interface Probed {
  client: Client<typeof Probe>;
  transport: CulvertTransport;
}

/** Runs body with a client, which is closed in the end. */
export async function probed<T>(options: CulvertTransportOptions, body: (p: Probed) => Promise<T>): Promise<T> {
  const transport = createCulvertTransport({ webSocket: env.WebSocket, ...options });
  try {
    return await body({ client: createClient(Probe, transport), transport });
  } finally {
    transport.close();
  }
}

/** Why an attempt failed, in the words that the platform's WebSocket has for it. */
export const noSocket = /WebSocket (closed with 1006|failed: .)/;

/** All messages of a stream. */
export async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const message of stream) {
    found.push(message);
  }
  return found;
}

/** Requests with these texts, numbered. */
export async function* texts(...list: string[]): AsyncIterable<Pick<Request, "sequence" | "text">> {
  for (const [i, text] of list.entries()) {
    yield { sequence: BigInt(i), text };
  }
}

/** A stream of requests that a test feeds as it goes. */
export function feed<T>() {
  const queue: T[] = [];
  let ended = false;
  let closed: (() => void) | undefined;
  let wake: (() => void) | undefined;
  const returned = new Promise<void>((resolve) => {
    closed = resolve;
  });
  const stream: AsyncIterable<T> = {
    [Symbol.asyncIterator]: () => ({
      async next() {
        while (!queue.length && !ended) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        const value = queue.shift();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
      async return() {
        ended = true;
        closed?.();
        wake?.();
        return { done: true, value: undefined };
      },
    }),
  };
  return {
    stream,
    /** Resolves when the call has no more use for requests. */
    returned,
    push(value: T) {
      queue.push(value);
      wake?.();
    },
    end() {
      ended = true;
      wake?.();
    },
  };
}

export type { Reply };
