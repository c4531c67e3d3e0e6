// The lines of @culvert/web/trace.

import { ConnectError } from "@connectrpc/connect";
import { trace } from "../src/trace.js";
import { all, probed, scripted, texts } from "./client.js";
import { box, env, equal, ok, rejects, test, testServers } from "./harness.js";

/** Fails unless lines contains these, in this order. */
function inOrder(lines: string[], ...wanted: RegExp[]) {
  let at = -1;
  for (const want of wanted) {
    at = lines.findIndex((line, i) => i > at && want.test(line));
    ok(at >= 0, `${want} in\n${lines.join("\n")}`);
  }
}

testServers("calls and frames are printed in words", async (baseUrl) => {
  const lines: string[] = [];
  const webSocket = trace({ print: (line) => lines.push(line), webSocket: env.WebSocket });
  await probed({ baseUrl, webSocket, token: () => "secret-token", protocols: () => ["secret.protocol"] }, async ({ client }) => {
    await client.unary({ text: "a" }, scripted({ echo: true }, { headers: { "x-own": "secret-value" } }).options);
    await all(client.bidi(texts("aa", "bb"), scripted({ echo: true }).options));
    await rejects(client.unary({}, scripted({ code: 5, message: "none such" }).options), ConnectError);
    const stop = new AbortController();
    const hanging = scripted({ hang: true }, { signal: stop.signal });
    const ended = rejects(client.unary({}, hanging.options), ConnectError);
    await hanging.began();
    stop.abort();
    await ended;
  });
  inOrder(
    lines,
    /^#\d+ \d\.\d{3} s: opens ws:.*, offers h2ts and 1 more$/,
    /: open, with h2ts$/,
    /: → SETTINGS ENABLE_PUSH 0, /,
    /: ← SETTINGS .*MAX_CONCURRENT_STREAMS \d+/,
    /: → stream 1 \(\/culvert.e2e.v1.Probe\/Unary\): begins; authorization, content-type: application\/grpc\+proto, /,
    /: → stream 1 \(.*\): message of 3 bytes$/,
    /: → stream 1 \(.*\): half-close$/,
    /: ← stream 1 \(.*\): header; :status: 200, .*content-type: application\/grpc/,
    /: ← stream 1 \(.*\): message of \d+ bytes$/,
    /: ← stream 1 \(.*\): ends with OK; /,
    /: → stream 3 \(.*Bidi\): begins/,
    /: ← stream 5 \(.*\): ends with NOT_FOUND; .*grpc-message: none such/,
    /: → stream 7 \(.*\): reset with CANCEL$/,
  );
  equal(
    lines.some((line) => line.includes("secret")),
    false,
  );
});

test("a cut and a GOAWAY are printed", async () => {
  const { baseUrl, goaway, cut, wait } = await box();
  const lines: string[] = [];
  let goawayCame = () => {};
  const told = new Promise<void>((resolve) => {
    goawayCame = resolve;
  });
  const print = (line: string) => {
    lines.push(line);
    if (line.includes("← GOAWAY")) {
      goawayCame();
    }
  };
  const webSocket = trace({ print, webSocket: env.WebSocket });
  await probed({ baseUrl, webSocket }, async ({ client }) => {
    const call = scripted({ hang: true });
    const ended = rejects(client.unary({}, call.options), ConnectError);
    await call.began();
    await goaway();
    await told;
    await client.unary({}, scripted({}).options);
    await cut();
    await ended;
    await wait(0);
  });
  inOrder(lines, /← GOAWAY with NO_ERROR after stream \d+/, /opens ws:/, /closed with 1006/);
});
