// What a page finds behind boxes that break things, and what its judge says.

import cases from "../../client/doctor/testdata/judge_page.json" with { type: "json" };
import { type DiagnoseOptions, diagnose, type Finding, type Report } from "../src/diagnose.js";
import { bidi, fieldsIn, judgeArrivals, messagesIn } from "../src/doctor/call.js";
import { judge } from "../src/doctor/judge.js";
import { deepEqual, env, equal, match, ok, rejects, seeded, test } from "./harness.js";

const inPage = env.place !== "node";
const run = (url: string, options: DiagnoseOptions = {}) => diagnose(url, { webSocket: env.WebSocket, ...options });
const results = (r: Report) => Object.fromEntries(r.findings.map((f) => [f.probe, f.result]));
const ids = (r: Report) => r.verdicts.map((v) => v.id);

/** Checks a report: its verdicts, and results that aren't "works". */
function checkReport(r: Report, bidirectional: string, verdicts: string[], wrong: Record<string, string> = {}) {
  const text = JSON.stringify(r, undefined, 1);
  const { grpc, ...rest } = results(r);
  const bad = Object.fromEntries(Object.entries(rest).filter(([, result]) => result !== "works"));
  deepEqual([r.bidirectional, ids(r), bad, grpc], [bidirectional, verdicts, wrong, "can't tell"], text);
}

/** How many timers keep Node running; 0 in a browser. */
const timers = () => {
  const { process } = globalThis as unknown as { process?: { getActiveResourcesInfo?: () => string[] } };
  return process?.getActiveResourcesInfo?.().filter((r) => r === "Timeout").length ?? 0;
};

/** A browser hides from a page of another origin what refuses its calls. */
const hidden = (verdict: string) => (inPage ? [verdict] : [verdict, "box-answered"]);

test("everything works", async () => {
  const told: Finding[] = [];
  const before = timers();
  const r = await run(`${env.servers.passes}/`, { progress: (f) => told.push(f) });
  const left = timers() - before;
  ok(left <= 1, `${left} timers are left`); // one is the package ws's, until the server closes, too
  checkReport(r, "yes", ["way-websocket-page"]);
  equal(r.url, env.servers.passes);
  deepEqual(told.map((f) => f.probe).sort(), r.findings.map((f) => f.probe).sort());
  const verdict = r.verdicts[0];
  deepEqual([verdict?.programs, verdict?.pages, verdict?.ask], ["auto", "websocket", undefined]);
  match(r.findings.find((f) => f.probe === "service")?.evidence ?? "", /^culvert \S+ sees HTTP\/1.1 in plaintext$/);
});

test("without its half the service is found, too", async () =>
  checkReport(await run(env.servers.culvert), "yes", ["way-websocket-page", "service-half-off"], {
    "large-body": "can't tell",
    service: "can't tell",
  }));

test("Upgrade is removed", async () => {
  const r = await run(env.servers.strips);
  checkReport(r, "no", ["way-grpc-web", "websocket-fails"], { websocket: "failed" });
  match(r.verdicts[1]?.ask ?? "", /allow WebSocket upgrades to 127\.0\.0\.1\./);
});

test("a WebSocket opens, and nothing passes", async () =>
  checkReport(await run(env.servers.dead), "no", ["way-grpc-web", "websocket-dead"], { "websocket-http2": "silent" }));

test("a WebSocket dies after its first bytes", async () =>
  checkReport(await run(env.servers.dies), "no", ["way-grpc-web", "websocket-dead-later"], { "websocket-http2": "silent" }));

test("a handshake hangs", async () =>
  checkReport(await run(env.servers.hangs), "no", ["way-grpc-web", "websocket-silent"], { websocket: "silent" }));

test("answers are held", async () =>
  checkReport(await run(env.servers.holds), "yes", ["way-websocket-page", "responses-held"], { "grpc-web-stream": "held" }));

test("a box refuses content types", async () => {
  const r = await run(env.servers.refuses);
  const wrong = {
    websocket: "failed",
    "grpc-web": "refused",
    "grpc-web-stream": "refused",
    "type-connect": "refused",
    "large-header": "refused",
    "large-body": "refused",
  };
  checkReport(r, "no", ["way-none", "websocket-fails", ...hidden("grpc-web-refused")], wrong);
  const web = r.findings.find((f) => f.probe === "grpc-web");
  if (inPage) {
    equal(web?.cause, "hidden");
  } else {
    deepEqual(web?.answer, { culvert: false, status: 403, says: "Blocked by policy", via: "1.1 box" });
  }
});

test("a box answers everything", async () => {
  const r = await run(env.servers.blocks);
  if (inPage) {
    checkReport(r, "no", ["way-none", "answers-hidden"], { websocket: "failed", preflight: "refused" });
  } else {
    deepEqual([r.bidirectional, ids(r)], ["no", ["way-none", "websocket-fails", "grpc-web-refused"]]);
    equal(r.findings.find((f) => f.probe === "grpc-web")?.answer?.says, "Blocked by policy");
  }
});

test("the server is gone", async () =>
  checkReport(await run(env.servers.gone), "no", ["way-none", "connect-fails"], { connect: "failed", websocket: "failed" }));

test(
  "culvert doesn't allow the page's origin",
  async () =>
    checkReport(await run(env.servers.closed), "no", ["way-none", "origin-denied"], { websocket: "failed", preflight: "refused" }),
  { page: true },
);

test("WebSockets on which no answer comes are ended", async () => {
  const r = await run(env.servers.quiet, { idleMs: 5000 });
  deepEqual([r.bidirectional, ids(r)], ["yes", ["way-websocket-page", "pings-not-counted"]], JSON.stringify(r, undefined, 1));
  const { "idle-websocket": silent, "idle-websocket-one-way": oneWay } = results(r);
  deepEqual([silent, oneWay], ["cut", "cut"]);
  const after = r.findings.find((f) => f.probe === "idle-websocket")?.after_seconds ?? 0;
  ok(after >= 2, `cut after ${after} s`);
});

test("WebSockets live as long as they are left alone", async () => {
  const r = await run(env.servers.passes, { idleMs: 1500 });
  checkReport(r, "yes", ["way-websocket-page"]);
  equal(r.findings.find((f) => f.probe === "idle-websocket-answered")?.evidence, "alive after 1.5 s");
});

test("an abort ends a run", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  const told: Finding[] = [];
  const ended = run(env.servers.hangs, {
    signal: controller.signal,
    progress: (f) => {
      told.push(f);
      controller.abort(reason);
    },
  });
  equal(await rejects(ended), reason);
  const before = told.length;
  await new Promise((resolve) => setTimeout(resolve, 50));
  equal(told.length, before);
  equal(await rejects(run(env.servers.hangs, { signal: controller.signal })), reason);
});

test("a wrong URL is an error", () => rejects(diagnose("ftp://example.com"), TypeError));

test("the judge agrees with that of culvert doctor", () => {
  for (const { pick, bidirectional, verdicts } of cases.rows) {
    const found = cases.choices.flatMap((may, i) => {
      const f = may[pick.charCodeAt(i) - 97];
      return f ? [f as Finding] : [];
    });
    const got = judge(found, {});
    deepEqual([got.bidirectional, got.verdicts.map((v) => v.id).join(" ")], [bidirectional, verdicts], JSON.stringify(found));
  }
  ok(cases.rows.length > 100);
});

test("messages that arrive together were held", () => {
  deepEqual(
    [
      [0, 400, 800, 1200],
      [0, 900, 1300, 9000],
      [0, 1, 2, 299],
      [0, 400],
    ].map((arrivals) => judgeArrivals(arrivals).result),
    ["works", "works", "held", "failed"],
  );
});

test("no bytes break the reader of messages", async () => {
  const dice = seeded(7);
  for (let n = 0; n < 3000; n++) {
    const parts = Array.from({ length: dice(6) }, () => Uint8Array.from({ length: dice(12) }, () => (dice(3) ? dice(9) : dice(256))));
    let read = 0;
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    try {
      for await (const message of messagesIn(
        () => parts.shift(),
        () => undefined,
      )) {
        read += 5 + message.length;
      }
      ok(n < 0, "nothing has said that the call ended with OK");
    } catch (e) {
      match(String(e), /these aren't gRPC's bytes|without grpc-status|answered in gRPC/);
    }
    ok(read <= size);
  }
  equal(fieldsIn("grpc-status: 0\r\nbad line\r\ngrpc-message:a b").get("grpc-message"), "a b");
});

test(
  "an echo that comes with the end of the request was held",
  async () => {
    const sent: Uint8Array[] = [];
    let release: (() => void) | undefined;
    const ended = new Promise<void>((resolve) => {
      release = resolve;
    });
    const call = {
      async send(message: Uint8Array | undefined, last: boolean) {
        message && sent.push(message);
        last && release?.();
      },
      next: () => ended.then(() => sent.shift()),
    };
    equal((await bidi(call, new AbortController().signal)).result, "held");
  },
  { waits: true },
);
