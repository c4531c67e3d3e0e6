// Calls of culvert.v1.Path (docs/reference/path.md), and what they show of a way.

import { octets, text, u32 } from "../h2/bytes.js";
import { H2Error } from "../h2/index.js";
import type { Answer, Finding } from "./finding.js";
import { interval, ticks } from "./service.js";

/** A finding without what the run adds. */
export type Found = Omit<Finding, "probe" | "took_seconds">;

/** How something ended that can't go on. */
export class Ended extends Error {
  declare readonly found: Found;
  constructor(found: Found) {
    super(found.evidence);
    Object.assign(this, { found });
  }
}

/** How long a probe waits for one answer, in milliseconds. */
export const patience = 4000;

/** The reason of a signal whose time is over. */
export const late = new Error("no answer in time");

/** Runs body with a signal that ends with the outer one, and after this time, and when body has ended. */
export async function within<T>(outer: AbortSignal, ms: number, body: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
  outer.throwIfAborted();
  const own = new AbortController();
  const { signal } = own;
  // First, so that its rejection comes before any that body makes of the abort.
  const over = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  over.catch(() => {});
  const stop = () => own.abort(outer.reason);
  outer.addEventListener("abort", stop);
  const timer = setTimeout(() => own.abort(late), ms);
  try {
    return await Promise.race([over, body(signal)]);
  } finally {
    clearTimeout(timer);
    outer.removeEventListener("abort", stop);
    own.abort(late);
  }
}

/** The finding of what was thrown. */
export function foundIn(e: unknown): Found {
  if (e instanceof Ended) {
    return e.found;
  }
  const evidence = printable(e instanceof Error ? e.message : String(e));
  return { result: e === late ? "silent" : e instanceof H2Error ? "cut" : "failed", evidence };
}

/** Somebody else's text without what isn't printable, and not all of it if it is long. */
export function printable(s: string): string {
  const shown = s.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, "?");
  return shown.length > 320 ? `${shown.slice(0, 320)}…` : shown;
}

const maxPage = 4096;

/** Reads who has answered, from the beginning of the body, too. */
export async function answerIn({ status, headers, body }: Response): Promise<Answer> {
  const reader = body?.getReader();
  let start = "";
  for (let part = await reader?.read(); part?.value && start.length < maxPage; part = await reader?.read()) {
    start += new TextDecoder().decode(part.value.subarray(0, maxPage));
  }
  return answerOf(status, headers, start);
}

/** Reads who has answered. start is the beginning of the body. */
export function answerOf(status: number, header: Headers, start: string): Answer {
  const reason = header.get("culvert-reason") ?? "";
  const title = start.match(/<title[^>]*>([^<]*)/i)?.[1]?.trim();
  const text = title || start.trim();
  const says = /^<|[\0\ufffd]/.test(text) ? "" : text.replace(/\s+/g, " ");
  const more = { reason, says, server: header.get("server"), via: header.get("via") };
  const given = Object.entries(more).flatMap(([k, v]) => (v ? [[k, printable(v)]] : []));
  return { culvert: !!reason, status, ...Object.fromEntries(given) };
}

/** The finding of an answer that isn't what a probe wants. */
export function refusedBy(answer: Answer): Found {
  const { culvert, status, reason, says, server, via } = answer;
  const parts = [reason, says && JSON.stringify(says), server && `Server: ${server}`, via && `Via: ${via}`];
  const evidence = [`${culvert ? "culvert answered" : "answered"} ${status}`, ...parts.filter((p) => p)].join(", ");
  const reasons: Record<string, string> = { ORIGIN_DENIED: "origin-denied", LIMIT_EXCEEDED: "quota" };
  const cause = culvert && (reasons[reason ?? ""] ?? (status === 401 ? "unauthenticated" : "service-refuses"));
  return { result: "refused", evidence, answer, ...(cause && { cause }) };
}

const codes =
  "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated".split(
    " ",
  );
/** The causes of some codes. */
const causes: Record<string, string> = {
  Unimplemented: "unimplemented",
  Unauthenticated: "unauthenticated",
  PermissionDenied: "unauthenticated",
  ResourceExhausted: "quota",
};

/** The finding of an error in gRPC: whoever made it speaks gRPC. */
export function statusFound(code: string, message: string): Found {
  const cause = causes[code];
  return { result: "can't tell", evidence: printable(`answered in gRPC: ${code}, ${message}`), ...(cause && { cause }) };
}

/** Throws unless these fields end a call with OK. */
function checkStatus(fields: Headers | undefined) {
  const status = fields?.get("grpc-status");
  if (!status) {
    throw new Ended({ result: "failed", cause: "no-trailers", evidence: "the answer ended without grpc-status" });
  }
  if (status !== "0") {
    let message = fields?.get("grpc-message") ?? "";
    try {
      message = decodeURIComponent(message);
    } catch {
      // It stays as it is.
    }
    throw new Ended(statusFound(codes[Number(status)] ?? status, message));
  }
}

/** A message as gRPC sends it. */
export const framed = (message: Uint8Array) => Uint8Array.from([0, ...octets(message.length), ...message]) as Uint8Array<ArrayBuffer>;

/** A google.protobuf.BytesValue of less than 128 bytes. */
export const payload = (n: number) => {
  const value = new TextEncoder().encode(`culvert doctor ${n}`);
  return Uint8Array.from([10, value.length, ...value]);
};

/** Header fields from the lines of a trailers frame. */
export function fieldsIn(lines: string): Headers {
  const fields = new Headers();
  for (const [, name, value] of lines.matchAll(/^([\w-]+): *([ -~]*)/gm)) {
    fields.append(name as string, value as string);
  }
  return fields;
}

/** One call. */
export interface Call {
  /** Sends a message; the request ends with the last one. */
  send(message: Uint8Array | undefined, last: boolean): Promise<void>;
  /** The next message, or undefined when the call has ended with OK. */
  next(): Promise<Uint8Array | undefined>;
}

/** The largest message of the service is smaller. */
const maxMessage = 1 << 17;

/**
 * Cuts the messages out of a response.
 *
 * @param read returns the body's next bytes, or undefined at its end.
 * @param end returns the fields at the end, unless a trailers frame has them.
 */
export async function* messagesIn(
  read: () => Uint8Array | undefined | Promise<Uint8Array | undefined>,
  end: () => Headers | undefined,
): AsyncGenerator<Uint8Array, undefined> {
  let bytes = new Uint8Array();
  const fill = async (size: number) => {
    while (bytes.length < size) {
      const more = await read();
      if (!more) {
        return false;
      }
      const old = bytes;
      bytes = new Uint8Array(old.length + more.length);
      bytes.set(old);
      bytes.set(more, old.length);
    }
    return true;
  };
  while (await fill(5)) {
    const [flag] = bytes;
    const size = u32(bytes, 1);
    if ((flag as number) & 0x7f || size > maxMessage) {
      throw new Ended({ result: "failed", evidence: `these aren't gRPC's bytes: ${printable(text(bytes.subarray(0, 40)))}` });
    }
    if (!(await fill(5 + size))) {
      break;
    }
    const message = bytes.slice(5, 5 + size);
    bytes = bytes.subarray(5 + size);
    if (flag) {
      checkStatus(fieldsIn(text(message)));
      return;
    }
    yield message;
  }
  checkStatus(end());
}

const same = (a: Uint8Array, b: Uint8Array | undefined) => a.length === b?.length && a.every((octet, i) => octet === b[i]);

/** Makes a call of Echo with one message. */
export async function unary(call: Call): Promise<Found> {
  await call.send(payload(0), true);
  const got = await call.next();
  return same(payload(0), got) && !(await call.next()) ? { result: "works" } : { result: "failed", evidence: "another message came back" };
}

/** Sends two messages, each after the echo of the one before. If no echo comes, ends the request, to see whether somebody holds it. */
export async function bidi(call: Call, signal: AbortSignal): Promise<Found> {
  for (let n = 0; n < 2; n++) {
    const message = payload(n);
    const echo = call.next();
    echo.catch(() => {});
    await call.send(message, false);
    let got: Uint8Array | undefined;
    try {
      got = await within(signal, patience, () => echo);
    } catch (e) {
      if (e !== late) {
        throw e;
      }
      if (n) {
        return { result: "silent", evidence: "the first message came back, and nothing after it" };
      }
      await call.send(undefined, true);
      got = await within(signal, patience, () => echo).catch(() => undefined);
      return same(message, got)
        ? { result: "held", evidence: "the echo came only when the request had ended" }
        : { result: "silent", evidence: "no echo, also not when the request had ended" };
    }
    if (!same(message, got)) {
      return { result: "failed", evidence: got ? "another message came back" : "the call ended before its request" };
    }
  }
  await call.send(undefined, true);
  return (await call.next())
    ? { result: "failed", evidence: "more messages came than the service sends" }
    : { result: "works", evidence: "two messages, each echoed before the next" };
}

/** Makes a call of Ticks, and looks when the messages arrive. */
export async function stream(call: Call, signal: AbortSignal): Promise<Found> {
  await call.send(new Uint8Array(), true);
  const arrivals: number[] = [];
  try {
    while (await within(signal, patience, () => call.next())) {
      arrivals.push(performance.now());
    }
  } catch (e) {
    if (e !== late || !arrivals.length) {
      throw e;
    }
    return { result: "silent", evidence: `${arrivals.length} of ${ticks} messages came, and nothing after them` };
  }
  return judgeArrivals(arrivals);
}

/** A box that holds messages lets them arrive together; a slow machine only spreads them more. */
export function judgeArrivals(arrivals: number[]): Found {
  const [first, last] = [arrivals[0] ?? 0, arrivals.at(-1) ?? 0];
  const sent = (ticks - 1) * interval;
  const spread = Math.round(last - first);
  if (arrivals.length !== ticks) {
    return { result: "failed", evidence: `${arrivals.length} messages came, want ${ticks}` };
  }
  return spread < sent / 4
    ? { result: "held", evidence: `messages sent over ${sent} ms arrived within ${spread} ms` }
    : { result: "works", evidence: `${ticks} messages over ${spread} ms` };
}
