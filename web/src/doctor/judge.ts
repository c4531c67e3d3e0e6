// The judge of culvert doctor (client/doctor/verdict.go), for what a page can find. Its cases are in
// client/doctor/testdata/judge_page.json, made by the judge in Go.

import type { Finding, Judgement, Probe, Result, Verdict } from "./finding.js";
import { order } from "./finding.js";
import { verdicts } from "./verdicts.js";

/** The causes for which the service itself refuses calls, as far as a page sees them. Each has a verdict of its name. */
const ownCauses = ["quota", "service-refuses", "unauthenticated"] as const;

/** Says what findings mean. names has what stands in braces in the words. */
export function judge(found: Finding[], names: Record<string, string>): Judgement {
  const none = { result: "" } as unknown as Finding;
  const of = (p: Probe) => {
    const f = found.find((f) => f.probe === p) ?? none;
    // What culvert itself refuses says nothing about the network.
    return f.answer?.culvert ? { ...f, result: "" as Result } : f;
  };
  const is = (p: Probe, ...results: Result[]) => results.includes(of(p).result);
  const works = (p: Probe) => is(p, "works");
  const bad = (p: Probe) => is(p, "refused", "stripped", "held", "silent", "cut", "failed");
  const said: Verdict[] = [];

  const say = (id: keyof typeof verdicts, evidence?: string) => {
    if (said.some((v) => v.id === id)) {
      return;
    }
    const row: Omit<Verdict, "id"> = verdicts[id];
    const fill = (text: string) => text.replace(/\{(\w+)\}/g, (_, name) => names[name] ?? "");
    const v: Verdict = { id, ...row, words: fill(row.words) };
    if (v.ask) {
      v.ask = fill(v.ask);
    }
    if (bad("page") || of("preflight").cause === "origin-denied") {
      delete v.pages;
    }
    if (evidence) {
      v.evidence = evidence;
    }
    said.push(v);
  };
  const tell = (id: keyof typeof verdicts, p: Probe) => say(id, of(p).evidence);

  // A server that isn't culvert may not have the service for the last probe.
  const socketPasses = works("websocket-http2") && is("websocket-bidi", "works", "can't tell");
  const socketWorks = socketPasses && !ownCauses.slice(0, 2).includes(of("websocket-bidi").cause as "quota");
  // The service is culvert: then an answer without its signs is somebody else's.
  const known =
    works("websocket-bidi") ||
    works("grpc-web-stream") ||
    works("service") ||
    (works("grpc-web") && !of("grpc-web").cause) ||
    found.some((f) => f.answer?.culvert || f.result === "held");
  // Another gRPC server may not speak what doesn't pass, so nobody can be blamed for that.
  const foreign = !known && !works("websocket-http2") && of("grpc-web").cause === "unimplemented";

  const socket = () => {
    const { result, cause } = of("websocket");
    const inside = of("websocket-http2");
    if (cause === "hidden") {
      of("preflight").cause || tell("websocket-fails", "websocket"); // else the page's origin explains it
    } else if (result === "silent") {
      tell("websocket-silent", "websocket");
    } else if (result !== "works") {
      // It wasn't tried.
    } else if (inside.cause === "no-pong") {
      tell("websocket-dead-later", "websocket-http2");
    } else if (inside.result !== "works") {
      tell("websocket-dead", "websocket-http2");
    } else if (!is("websocket-bidi", "works", "can't tell")) {
      tell("websocket-dead-later", "websocket-bidi");
    }
  };

  const web = () => {
    const { result, answer } = of("grpc-web");
    if (result !== "works") {
      // No POST passes, whatever its content type is, and a GET does: that of the WebSocket.
      const none = works("websocket-http2") && bad("grpc-web") && bad("type-connect") && bad("type-json");
      const how = result === "refused" ? "grpc-web-refused" : result === "silent" ? "grpc-web-silent" : "grpc-web-cut";
      result && tell(none || answer?.status === 405 ? "post-refused" : how, "grpc-web");
      return;
    }
    if (is("grpc-web-stream", "held", "silent")) {
      tell("responses-held", "grpc-web-stream");
    }
    if (is("grpc-web-stream", "cut")) {
      say("age-cut", `after ${of("grpc-web-stream").took_seconds} s: ${of("grpc-web-stream").evidence}`);
    }
    for (const p of ["type-connect", "type-json"] as const) {
      known && bad(p) && tell("types-refused", p);
    }
  };

  const sizes = () => {
    if (works("grpc-web") && known) {
      is("large-body", "refused") && tell("body-capped", "large-body");
      is("large-body", "cut", "silent", "failed") && tell("transfer-cut", "large-body");
      bad("large-header") && tell("header-capped", "large-header");
    }
  };

  const idle = () => {
    const ends = [
      ["age-cut", "idle-websocket-answered"],
      ["pings-not-counted", "idle-websocket-one-way"],
      ["idle-cut", "idle-websocket"],
    ] as const;
    const [id, p] = ends.find(([, p]) => is(p, "cut", "silent")) ?? [];
    id && p && tell(id, p);
  };

  const service = () => {
    for (const p of order) {
      const { answer, cause } = of(p);
      if (answer && !answer.culvert && p !== "preflight" && known) {
        say("box-answered", of(p).evidence);
      }
      const own = ownCauses.find((c) => c === cause);
      own && tell(own, p);
    }
    if (foreign) {
      say("service-missing");
    } else if (of("service").cause === "unimplemented" && known) {
      tell("service-half-off", "service");
    }
  };

  const page = () => {
    of("page").cause === "policy-blocks" && tell("csp-blocks", "page");
    of("page").cause === "mixed-content" && tell("mixed-content", "page");
    const { cause, result } = of("preflight");
    if (cause === "origin-denied") {
      tell("origin-denied", "preflight");
    } else if (cause === "hidden") {
      tell("answers-hidden", "preflight");
    } else if (result && result !== "works") {
      tell("preflight-lost", "preflight");
    }
  };

  const way = socketWorks
    ? "way-websocket-page"
    : socketPasses
      ? "way-unknown"
      : works("grpc-web-stream")
        ? "way-grpc-web"
        : works("grpc-web")
          ? "way-unary"
          : "way-none";
  say(way);
  if (bad("connect")) {
    tell(is("connect", "silent") ? "connect-silent" : "connect-fails", "connect");
  } else {
    bad("alpn") && tell("no-http2", "alpn");
    if (!foreign) {
      socket();
      web();
      sizes();
    }
    idle();
    service();
  }
  page();
  return { bidirectional: socketWorks ? "yes" : socketPasses ? "can't tell" : "no", verdicts: said };
}
