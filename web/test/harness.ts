// The tests' side of run.js: what a test file imports. A test runs in Node and in
// browsers, unless it needs a page.

type Box = "passes" | "strips" | "dead" | "dies" | "hangs" | "quiet" | "holds" | "refuses" | "blocks" | "gone";

interface Environment {
  /** Where the tests run. */
  place: "node" | "chromium" | "firefox" | "worker" | "shared-worker";
  /**
   * Base URLs of servers that speak h2ts before the same backend. beside is plain at another address. doctor is culvert
   * with its half of the doctor, behind which the boxes are (boxes.js), and closed allows no origin of the tests'.
   * guarded is culvert with an Authenticator for the tests' tokens (internal/guard).
   */
  servers: Record<"culvert" | "doctor" | "closed" | "plain" | "guarded" | "beside", string> & Record<Box, string>;
  /** The address of the page that browsers have open. It also serves what e2e/sequences has written. */
  page: string;
  /** The time that a test has, in milliseconds, unless it asks for more. */
  patience: number;
  /** Only tests with this in their names run. */
  only: string;
  /** The tests have the oldest connect-es that the package takes. */
  oldest: boolean;
  /** The run may take minutes, and covers everything that a shorter run takes samples of. */
  long: boolean;
  /** The platform's WebSocket, or that of the package ws. */
  WebSocket: typeof WebSocket;
}

/** Set by run.js before the tests are loaded. */
export const env = (globalThis as unknown as { testEnvironment: Environment }).testEnvironment;

interface Test {
  name: string;
  body: () => unknown;
  patience: number;
  waits: boolean;
}

const tests: Test[] = [];
const seen = new Set<string>();
let file = "";

/** Sets the file of the tests declared from here on. The entry that run.js makes calls it. */
export function inFile(name: string) {
  file = name;
}

interface Options {
  /** It runs in pages only. */
  page?: true;
  /** False if it needs a newer connect-es than the oldest. */
  oldest?: false;
  /** In milliseconds; it only ends a hang. */
  patience?: number;
  /** It waits for seconds, and nothing that it does reaches other tests. */
  waits?: true;
}

/** Declares a test. First those that wait run, all at once; then the others, one after the other, in the order of their declaration. */
export function test(name: string, body: () => unknown, options: Options = {}) {
  const whole = `${file}: ${name}`;
  if (seen.has(whole)) {
    throw new Error(`two tests have the name ${whole}`);
  }
  seen.add(whole);
  if ((!options.page || globalThis.document) && (options.oldest ?? env.oldest) === env.oldest && whole.includes(env.only)) {
    tests.push({ name: whole, body, patience: options.patience ?? env.patience, waits: !!options.waits });
  }
}

/** Declares a test for each of the two servers. body gets the server's base URL and name. */
export function testServers(name: string, body: (baseUrl: string, server: "culvert" | "plain") => unknown, options?: Options) {
  for (const server of ["plain", "culvert"] as const) {
    test(`${name} (${server})`, () => body(env.servers[server], server), options);
  }
}

interface Result {
  passed: number;
  failures: string[];
  /** How long each test took, in milliseconds. */
  times: [name: string, ms: number][];
}

/** Runs the declared tests. An error that nobody handled fails the tests during which it came. */
export async function run(): Promise<Result> {
  const failures: string[] = [];
  const times: Result["times"] = [];
  // Firefox opens one WebSocket of a host at a time, whatever the port, and pauses behind failed ones.
  const beside = (t: Test) => t.waits && env.place !== "firefox";
  for (const batch of [tests.filter(beside), ...tests.filter((t) => !beside(t)).map((t) => [t])]) {
    const stray: unknown[] = [];
    const unlisten = onStray((e) => stray.push(e));
    await Promise.all(
      batch.map(async ({ name, body, patience }) => {
        const began = performance.now();
        try {
          await within(patience, body);
          await new Promise((resolve) => setTimeout(resolve)); // lets rejections be told
          if (stray.length > 0) {
            throw stray[0];
          }
        } catch (e) {
          failures.push(`${name}\n${describe(e)}`);
        }
        times.push([name, Math.round(performance.now() - began)]);
      }),
    );
    unlisten();
  }
  return { passed: tests.length - failures.length, failures, times };
}

async function within(ms: number, body: () => unknown) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`hasn't ended after ${ms} ms`)), ms);
  });
  try {
    await Promise.race([(async () => body())(), late]);
  } finally {
    clearTimeout(timer);
  }
}

interface Emitter {
  on(name: string, f: (e: unknown) => void): void;
  off(name: string, f: (e: unknown) => void): void;
}

function onStray(f: (e: unknown) => void): () => void {
  if (env.place === "node") {
    const process = (globalThis as unknown as { process: Emitter }).process;
    const names = ["unhandledRejection", "uncaughtException"];
    for (const name of names) {
      process.on(name, f);
    }
    return () => {
      for (const name of names) {
        process.off(name, f);
      }
    };
  }
  const rejected = (e: PromiseRejectionEvent) => f(e.reason);
  const failed = (e: ErrorEvent) => f(e.error ?? e.message);
  addEventListener("unhandledrejection", rejected);
  addEventListener("error", failed);
  return () => {
    removeEventListener("unhandledrejection", rejected);
    removeEventListener("error", failed);
  };
}

function describe(e: unknown): string {
  if (!(e instanceof Error)) {
    return `  not an Error: ${show(e)}`;
  }
  const stack = e.stack ?? "";
  const text = stack.includes(e.message) ? stack : `${e.name}: ${e.message}\n${stack}`;
  return (e.cause === undefined ? text : `${text}\ncaused by ${describe(e.cause)}`).replace(/^/gm, "  ");
}

/** A value as a text that shows its whole content: bytes as hex, bigint with n, Error by name and message. */
export function show(value: unknown): string {
  const text =
    JSON.stringify(plain(value), (_, v) => (typeof v === "bigint" ? `${v}n` : v === undefined ? "undefined" : v), 1) ?? String(value);
  return text.length > 4000 ? `${text.slice(0, 4000)}… (${text.length} characters)` : text;
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) {
    return `bytes ${Array.from(value.subarray(0, 256), (b) => b.toString(16).padStart(2, "0")).join("")} (${value.length})`;
  }
  if (value instanceof Error) {
    return `${value.name}: ${value.message}`;
  }
  if (value instanceof Map || value instanceof Set) {
    return Array.from(value, plain);
  }
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (typeof value === "object" && value !== null && Object.getPrototypeOf(value) !== null) {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  }
  return value;
}

function fail(what: string, hint?: string): never {
  throw new Error(hint === undefined ? what : `${hint}: ${what}`);
}

export function ok(value: unknown, hint?: string): asserts value {
  if (!value) {
    fail(`got ${show(value)}`, hint);
  }
}

/** Compares as Object.is does. */
export function equal<T>(got: T, want: T, hint?: string) {
  if (!Object.is(got, want)) {
    fail(`got ${show(got)}, want ${show(want)}`, hint);
  }
}

/** Compares primitives, bytes, arrays, plain objects, maps and sets by their content. */
export function deepEqual<T>(got: T, want: T, hint?: string) {
  const at = difference(got, want, "");
  if (at !== undefined) {
    fail(`got ${show(got)}, want ${show(want)}${at && `, differ at ${at}`}`, hint);
  }
}

function difference(a: unknown, b: unknown, path: string): string | undefined {
  if (Object.is(a, b)) {
    return undefined;
  }
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null || Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) {
    return path;
  }
  if (a instanceof Map || a instanceof Set) {
    return difference(Array.from(a), Array.from(b as Set<unknown>), path);
  }
  if (ArrayBuffer.isView(a)) {
    const [x, y] = [a as Uint8Array, b as Uint8Array];
    if (x.length !== y.length) {
      return `${path}.length`;
    }
    const i = x.findIndex((v, n) => v !== y[n]);
    return i < 0 ? undefined : `${path}[${i}]`;
  }
  const [x, y] = [a as Record<string, unknown>, b as Record<string, unknown>];
  for (const key of new Set([...Object.keys(x), ...Object.keys(y)])) {
    if (!(key in x) || !(key in y)) {
      return `${path}.${key}`;
    }
    const at = difference(x[key], y[key], `${path}.${key}`);
    if (at !== undefined) {
      return at;
    }
  }
  return undefined;
}

/** Fails unless text matches. */
export function match(text: string, want: RegExp, hint?: string) {
  if (!want.test(text)) {
    fail(`${show(text)} doesn't match ${want}`, hint);
  }
}

/** Returns the error that what throws or rejects with. want, if given, must match its message or be its class. */
export async function rejects<E = Error>(
  what: Promise<unknown> | (() => unknown),
  // biome-ignore lint/suspicious/noExplicitAny: any constructor
  want?: RegExp | (new (...args: any[]) => E),
): Promise<E> {
  let got: unknown;
  try {
    got = await (typeof what === "function" ? what() : what);
  } catch (e) {
    if (want instanceof RegExp) {
      match(String((e as Error)?.message ?? e), want);
    } else if (want !== undefined && !(e instanceof want)) {
      throw new Error(`rejected with another class than ${want.name}`, { cause: e });
    }
    return e as E;
  }
  fail(`nothing was thrown; got ${show(got)}`);
}

/** Asks the plain server about the backend's records (/record, /release…, e2e/backend) or its connections (e2e/backend/h2ts.go). */
export async function control<T = unknown>(path: string, parameters: Record<string, string> = {}): Promise<T> {
  const answer = await fetch(`${env.servers.plain}/-${path}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) {
    fail(`${path}: ${answer.status} ${await answer.text()}`);
  }
  return answer.json() as Promise<T>;
}

/** Numbers that are the same in each run with this seed: each call returns an integer from 0 to below n. (mulberry32) */
export function seeded(seed: number): (n: number) => number {
  let a = seed >>> 0;
  return (n) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** How the plain server behaves towards the WebSockets of one path. e2e/backend/h2ts.go says more. */
export interface Rules {
  /** SETTINGS_MAX_CONCURRENT_STREAMS; 250 if it isn't given. */
  maxStreams?: number;
  /** The window of a stream for requests, in bytes; 1 MiB if it isn't given. */
  streamWindow?: number;
  /** What the server sends, with its SETTINGS, is held back until release. */
  hold?: boolean;
  /** So many calls are refused with REFUSED_STREAM. */
  refuse?: number;
  /** The answer to the upgrade. */
  status?: number;
  /** The upgrade isn't answered. */
  silent?: boolean;
  /** The upgrade is answered without a subprotocol. */
  noProtocol?: boolean;
  /** The codes of the answers to culvert.v1.Session/Refresh, of which the last one is for all further ones; -1: none. Without it, the backend answers. */
  refreshes?: number[];
}

/** The WebSockets of a path: those that are open now, and those that have been opened. */
interface Count {
  live: number;
  opened: number;
}

let boxes = 0;

/** Takes a new path of the plain server, whose WebSockets behave as the rules say. */
export async function box(rules: Rules = {}) {
  const path = `/${env.place}-${++boxes}`;
  const ask = (what: string, parameters: Record<string, string> = {}) => control<Count>(`/tunnels/${what}`, { path, ...parameters });
  const behave = (r: Rules) => ask("rules", { rules: JSON.stringify(r) });
  await behave(rules);
  return {
    path,
    baseUrl: env.servers.plain + path,
    /** Sets the rules for WebSockets to come; refuse is for calls to come. */
    behave,
    /** Sends what is held back. */
    release: () => ask("release"),
    /** Ends the TCP connections. */
    cut: () => ask("cut"),
    /** Ends the WebSockets with a close frame. */
    close: (code: number, reason = "") => ask("close", { code: String(code), reason }),
    /** Sends GOAWAY with the id of the last call. */
    goaway: () => ask("goaway"),
    /** Resolves once so many tokens have come by culvert.v1.Session/Refresh, to their authorizations. */
    refreshes: (count: number) => control<string[]>("/tunnels/refreshes", { path, count: `${count}` }),
    /** Resolves once so many WebSockets are open; without live, at once. */
    wait: (live?: number) => ask("wait", live === undefined ? {} : { live: String(live) }),
  };
}
