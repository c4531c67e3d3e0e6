// Finds out, from where a page is, what the network lets through: culvert doctor's half in a browser.
// docs/reference/doctor.md has the probes and the report.

import {
  answerIn,
  bidi,
  type Call,
  Ended,
  type Found,
  foundIn,
  framed,
  late,
  messagesIn,
  patience,
  payload,
  printable,
  refusedBy,
  statusFound,
  stream,
  unary,
  within,
} from "./doctor/call.js";
import { type Finding, order, type Probe, type Report } from "./doctor/finding.js";
import { judge } from "./doctor/judge.js";
import { largeMessage, largeMessages, serviceName } from "./doctor/service.js";
import { blocked, openTunnel, type Tunnel } from "./doctor/socket.js";
import type { WebSocketConstructor } from "./pipe.js";

export type { Answer, Finding, Judgement, Probe, Report, Result, Verdict } from "./doctor/finding.js";

/** The options of {@link diagnose}. */
export interface DiagnoseOptions {
  /** Ends the run. */
  signal?: AbortSignal | undefined;
  /** Is told of each finding as it comes. */
  progress?: ((finding: Finding) => void) | undefined;
  /** How long to leave WebSockets alone, in milliseconds. If unset, not at all. */
  idleMs?: number | undefined;
  /** Headers of the calls, such as a token. The report has none of them. */
  headers?: HeadersInit | undefined;
  /** Opens the WebSockets. If unset, the platform's. */
  webSocket?: WebSocketConstructor | undefined;
}

/** A call waits for at most two answers. */
const callLimit = 2 * patience + 1000;
const webType = "application/grpc-web+proto";
const json = "application/json";
/** What proxies often refuse. */
const largeHeader = 12 << 10;

/**
 * Tests the way from this page to the service at the URL, in at most 30 s without idleMs. A network that breaks is a
 * finding: the promise rejects only if the URL is wrong, or with the signal's reason.
 */
export async function diagnose(url: string, options: DiagnoseOptions = {}): Promise<Report> {
  const base = new URL(url, globalThis.document?.baseURI);
  base.pathname = base.pathname.replace(/\/*$/, "/");
  base.search = base.hash = "";
  if (!/^https?:$/.test(base.protocol)) {
    throw new TypeError(`${url}: the URL begins with https: or http:`);
  }
  const whole = new AbortController();
  const stop = () => whole.abort(options.signal?.reason);
  options.signal?.throwIfAborted();
  options.signal?.addEventListener("abort", stop);
  try {
    return await run(base, options, whole.signal);
  } finally {
    options.signal?.removeEventListener("abort", stop);
    whole.abort(late);
  }
}

async function run(base: URL, options: DiagnoseOptions, whole: AbortSignal): Promise<Report> {
  const Socket = options.webSocket ?? globalThis.WebSocket;
  const headers = new Headers(options.headers);
  const page = globalThis.location && globalThis.origin; // Node has neither, and no policy of a page
  const foreign = !!page && page !== base.origin;
  const found: Finding[] = [];
  const forbidden = new Set<string>();
  /** What a policy says that forbids requests. */
  let policy = "";
  /** What came of the first call: of Report, in JSON, for which browsers send a preflight. */
  let report: Found | undefined;
  /** Something has answered. */
  let reached = false;

  const note = (probe: Probe, f: Found, began = performance.now()) => {
    const finding = { probe, ...f, took_seconds: Math.round(performance.now() - began) / 1000 };
    found.push(finding);
    options.progress?.(finding);
    return finding;
  };
  const works = (p: Probe) => found.some((f) => f.probe === p && f.result === "works");
  /** Makes a probe. An error is a finding, unless it ends the run. */
  const probe = async (p: Probe, ms: number, make: (signal: AbortSignal) => Promise<Found>) => {
    const began = performance.now();
    for (let tries = 1; ; tries++) {
      const f = await within(whole, ms, make).catch(foundIn);
      whole.throwIfAborted();
      // culvert takes 20 calls of the service a second from one address, which others may have, too.
      if (f.cause !== "quota" || tries > 2) {
        return note(p, f, began);
      }
      await pause(1000, whole);
    }
  };

  const method = (name: string) => `${base.href}${serviceName}/${name}`;
  /** Fetches. If the browser gives no answer, it doesn't say why. */
  const ask = async (url: string, request: RequestInit): Promise<Response> => {
    try {
      const answer = await fetch(url, { cache: "no-store", ...request });
      reached = true;
      return answer;
    } catch (e) {
      request.signal?.throwIfAborted();
      const evidence = `the browser says only: ${printable((e as Error).message)}`;
      throw new Ended(foreign ? { result: "refused", cause: "hidden", evidence } : { result: "cut", evidence });
    }
  };
  const post = (name: string, type: string, body: BodyInit, signal: AbortSignal, more: Record<string, string> = {}) => {
    const header = new Headers(headers);
    for (const [name, value] of Object.entries({ "content-type": type, ...more })) {
      header.set(name, value);
    }
    return ask(method(name), { method: "POST", headers: header, body, signal });
  };
  const isWeb = { "x-grpc-web": "1" };

  /** Throws unless an answer to a content type is one of gRPC's, whatever it says. */
  const check = async (answer: Response, type: string) => {
    const [family = ""] = type.split("+");
    const fits = answer.headers.get("content-type")?.startsWith(family) && (answer.ok || family === type);
    if (!fits && !answer.headers.has("grpc-status")) {
      throw new Ended(refusedBy(await answerIn(answer)));
    }
  };
  /** A call of gRPC-Web, whose request is one message. */
  const webCall = (name: string, signal: AbortSignal): Call => {
    let header = new Headers();
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    const read = async () => {
      try {
        return (await reader?.read())?.value;
      } catch (e) {
        signal.throwIfAborted();
        throw new Ended({ result: "cut", evidence: `the answer breaks off: ${printable((e as Error).message)}` });
      }
    };
    const messages = messagesIn(read, () => header);
    return {
      async send(message = new Uint8Array()) {
        const answer = await post(name, webType, framed(message), signal, isWeb);
        header = answer.headers;
        await check(answer, webType);
        reader = answer.body?.getReader();
      },
      next: async () => (await messages.next()).value,
    };
  };
  /** Posts a whole request, and says whether the service answers. */
  const posted = (p: Probe, type: string, body: BodyInit, more: Record<string, string>) =>
    probe(p, callLimit, async (signal) => {
      const answer = await post("Echo", type, body, signal, more);
      if (!answer.headers.has("culvert-reason")) {
        await check(answer, type);
      }
      return { result: "works" };
    });
  const largeBody = async (signal: AbortSignal): Promise<Found> => {
    if (!works("service")) {
      return { result: "can't tell", evidence: "this needs the service's half: culvert serve --doctor" };
    }
    const one = framed(new Uint8Array(largeMessage));
    const answer = await post("Echo", webType, new Blob(Array(largeMessages).fill(one)), signal, isWeb);
    await check(answer, webType);
    const { size } = await answer.blob();
    return size > one.length * largeMessages
      ? { result: "works", evidence: "1 MiB each way" }
      : { result: "cut", evidence: `only ${size} bytes came back` };
  };
  /** Reads the answer of the service's half. */
  const service = async (answer: Response): Promise<Found> => {
    await check(answer, json);
    const facts = await answer.json();
    if (!answer.ok) {
      const code = `${facts.code}`.replace(/(^|_)(\w)/g, (_, _line, letter) => letter.toUpperCase());
      return statusFound(code, facts.message);
    }
    const hops = facts.proxies?.via;
    const evidence = `culvert ${facts.version} sees ${facts.http} ${facts.tls ? "over TLS" : "in plaintext"}${hops ? `, through ${hops} proxies (Via)` : ""}`;
    return { result: "works", evidence: printable(evidence) };
  };

  /** Resolves to whether an answer comes that the page can read, or at least one that it can't; undefined: none. */
  const plain = async (signal: AbortSignal) => {
    for (const mode of ["cors", "no-cors"] as const) {
      try {
        await ask(method("Echo"), { mode, signal });
        return mode;
      } catch (e) {
        if (!(e instanceof Ended)) {
          throw e;
        }
      }
    }
    return;
  };
  /** The page of culvert's own can be read from every origin, with serve --doctor. */
  const isCulvert = async (signal: AbortSignal) => {
    try {
      return (await (await ask(`${base.href}_culvert/doctor`, { signal })).text()).includes("<title>culvert doctor</title>");
    } catch {
      return false;
    }
  };
  /** Makes the first call, and finds out why if no answer comes. It is one for which browsers send a preflight if the page has another origin. */
  const preflight = async (signal: AbortSignal): Promise<Found> => {
    let silent = false;
    try {
      report = await within(signal, patience, async (signal) => service(await post("Report", json, "{}", signal)).catch(foundIn));
      return { result: "works", evidence: `${page} may call` };
    } catch (e) {
      signal.throwIfAborted();
      silent = e === late;
    }
    const mode = await within(signal, patience, plain);
    if (mode === "no-cors") {
      const denied = await within(signal, patience, isCulvert).catch(() => false);
      return denied
        ? { result: "refused", cause: "origin-denied", evidence: `culvert answers, and not to ${page}` }
        : { result: "refused", cause: "hidden", evidence: "the browser hides the answer" };
    }
    const evidence = mode ? "a GET is answered, and a POST isn't" : "nothing answers";
    return { result: silent ? "silent" : mode && foreign ? "stripped" : "cut", evidence };
  };

  /** Examines HTTP. */
  const web = async () => {
    const began = performance.now();
    const first = await within(whole, 3 * patience, preflight).catch(foundIn);
    whole.throwIfAborted();
    const took = performance.now() - began;
    if (first.result !== "works") {
      await pause(100, whole); // Firefox tells of a policy's violation after the request has failed
    }
    if (foreign ? first.result !== "works" : !reached) {
      return { first, took };
    }
    const refused = report?.answer && !report.answer.culvert;
    note("type-json", report && !refused ? { result: "works" } : (report ?? first), began);
    if (report) {
      note("service", report, began);
    }
    const call = (p: Probe, name: string, examine: (call: Call, signal: AbortSignal) => Promise<Found>) =>
      probe(p, callLimit, (signal) => examine(webCall(name, signal), signal));
    await Promise.all([
      call("grpc-web", "Echo", async (c) => proves(await unary(c).catch(foundIn))),
      call("grpc-web-stream", "Ticks", stream),
      posted("type-connect", "application/connect+proto", framed(payload(0)), { "connect-protocol-version": "1" }),
      posted("large-header", webType, framed(payload(0)), { ...isWeb, "x-doctor": "x".repeat(largeHeader) }),
      probe("large-body", callLimit, largeBody),
    ]);
    return { first, took };
  };

  const open = (signal: AbortSignal) => openTunnel(base, headers, Socket, signal);
  /** Examines a WebSocket. Resolves to the result if it doesn't open. */
  const socket = async () => {
    const began = performance.now();
    let tunnel: Tunnel;
    try {
      tunnel = await within(whole, patience, open);
    } catch (e) {
      whole.throwIfAborted();
      if (e === blocked) {
        forbidden.add(base.protocol.replace("http", "ws"));
        return;
      }
      const f = foundIn(e);
      return note("websocket", f.result === "silent" ? f : { ...f, result: "failed", cause: "hidden" }, began).result;
    }
    reached = true;
    note("websocket", { result: "works", evidence: "101, subprotocol h2ts" }, began);
    try {
      if ((await probe("websocket-http2", callLimit, tunnel.prove)).result === "works") {
        await probe("websocket-bidi", callLimit, (signal) => bidi(tunnel.call("Echo"), signal));
      }
    } finally {
      tunnel.close();
    }
    return;
  };

  /** Leaves a WebSocket alone but for a sign of life now and then, to see what ends it. */
  const leave = async (p: Probe, sign?: (tunnel: Tunnel, signal: AbortSignal) => Promise<void> | void) => {
    const idle = options.idleMs as number;
    await probe(p, idle + 5 * patience, async (signal) => {
      const tunnel = await open(signal).catch((e) => {
        throw new Ended({ ...foundIn(e), result: "can't tell" });
      });
      const began = performance.now();
      try {
        await tunnel.prove(signal);
        if (works("service")) {
          // Else the service ends the connection after a time without a call.
          await tunnel.call("Echo").send(payload(0), false);
        }
        const every = Math.min(Math.max(idle / 24, 1000), 5000);
        for (let left = idle; left > 0; left = idle - (performance.now() - began)) {
          await Promise.race([pause(Math.min(every, left), signal), tunnel.ended]);
          await sign?.(tunnel, signal);
        }
        await tunnel.ping(signal);
        return { result: "works", evidence: `alive after ${idle / 1000} s` };
      } catch (e) {
        whole.throwIfAborted();
        const f = foundIn(e);
        const after = Math.round(performance.now() - began) / 1000;
        return { ...f, after_seconds: after, evidence: `after ${after} s: ${f.evidence}` };
      } finally {
        tunnel.close();
      }
    });
  };

  const onviolation = (e: Event) => {
    const { blockedURI, disposition, effectiveDirective, originalPolicy } = e as SecurityPolicyViolationEvent;
    const at = URL.canParse(blockedURI) ? new URL(blockedURI) : undefined;
    if (disposition === "enforce" && effectiveDirective === "connect-src" && at?.host === base.host) {
      forbidden.add(at.protocol);
      policy = originalPolicy;
    }
  };

  if (base.protocol === "https:") {
    note("decryption", { result: "can't tell", evidence: "a page can't see the issuer" });
  }
  note("grpc", { result: "can't tell", cause: "hidden", evidence: "browsers don't let a page speak native gRPC" });
  if (page?.startsWith("https:") && base.protocol === "http:" && !/^(localhost|127\..*|\[::1\]|.*\.localhost)$/.test(base.hostname)) {
    note("page", { result: "refused", cause: "mixed-content", evidence: "the page is https, the edge is http" });
  } else {
    globalThis.addEventListener?.("securitypolicyviolation", onviolation);
    try {
      const [{ first, took }, silent] = await Promise.all([web(), socket()]);
      if (foreign && reached && !forbidden.has(base.protocol)) {
        note("preflight", first, performance.now() - took);
      }
      if (page) {
        const schemes = [...forbidden].map((scheme) => `${scheme}//${base.host}`).join(" and ");
        note(
          "page",
          schemes
            ? { result: "refused", cause: "policy-blocks", evidence: printable(`connect-src forbids ${schemes} (${policy})`) }
            : { result: "works", evidence: "connect-src allows the edge" },
        );
      }
      if (reached) {
        note("connect", { result: "works", evidence: "an answer came" });
      } else if (!forbidden.size) {
        const offline = globalThis.navigator?.onLine === false ? "the browser has no network" : "the browser doesn't say why";
        const quiet = first.result === "silent" && silent === "silent";
        note(
          "connect",
          quiet ? { result: "silent", evidence: "no answer in time" } : { result: "failed", evidence: `no connection: ${offline}` },
        );
      }
    } finally {
      globalThis.removeEventListener?.("securitypolicyviolation", onviolation);
    }
    if (base.protocol === "https:" && reached) {
      const by = performance.getEntriesByName(method("Echo")).at(-1) as PerformanceResourceTiming | undefined;
      const spoken = by?.nextHopProtocol;
      note("alpn", {
        result: !spoken ? "can't tell" : spoken.startsWith("http/1") ? "stripped" : "works",
        evidence: spoken ? `the browser speaks ${printable(spoken)}` : "hidden from pages of other origins",
      });
    }
    if (options.idleMs && works("websocket-http2")) {
      await Promise.all([
        leave("idle-websocket"),
        leave("idle-websocket-one-way", (tunnel) => tunnel.say()),
        leave("idle-websocket-answered", (tunnel, signal) => tunnel.ping(signal)),
      ]);
    }
  }
  found.sort((a, b) => order.indexOf(a.probe) - order.indexOf(b.probe));
  const port = base.port || (base.protocol === "https:" ? "443" : "80");
  return {
    url: base.href.slice(0, -1),
    ...(page && { origin: page }),
    time: `${new Date().toISOString().slice(0, 19)}Z`,
    findings: found,
    ...judge(found, { host: base.hostname, port, authority: base.host, s: base.protocol.slice(4, -1) }),
  };
}

/** Any answer in gRPC makes a unary call work: whoever answered speaks gRPC. */
const proves = (f: Found): Found => (f.result === "can't tell" ? { ...f, result: "works" } : f);

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
