// What calls do where no WebSocket works.

import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { all, noSocket, overdue, probed, scripted, texts } from "./client.js";
import { box, deepEqual, env, equal, match, ok, rejects, test } from "./harness.js";

/** gRPC-Web over fetch, and how often it was taken. */
function grpcWeb(baseUrl = env.servers.culvert) {
  const used: string[] = [];
  const count: Interceptor = (next) => (request) => {
    used.push(request.method.name);
    return next(request);
  };
  return { used, fallback: createGrpcWebTransport({ baseUrl, interceptors: [count] }) };
}

test("calls take the fallback if the upgrade is refused", async () => {
  const { baseUrl } = await box({ status: 403 });
  const { used, fallback } = grpcWeb();
  const seen: string[] = [];
  const interceptor: Interceptor = (next) => (request) => {
    seen.push(request.method.name);
    request.header.set("x-added", "yes");
    return next(request);
  };
  await probed({ baseUrl, fallback, interceptors: [interceptor], token: () => "t" }, async ({ client, transport }) => {
    const call = scripted({ echo_metadata: true }, { timeoutMs: 60_000 });
    const reply = await client.unary({}, call.options);
    for (const name of ["x-added", "authorization", "x-grpc-web"]) {
      ok(name === "x-grpc-web" || reply.metadata.some((f) => f.name === name), name);
    }
    ok((await call.ended()).timeout > 50e9);
    equal(transport.state.status, "blocked");
    equal((await all(client.serverStream({}, scripted({ replies: 3 }).options))).length, 3);
    equal((await rejects(client.unary({}, scripted({ code: 9, message: "m" }).options), ConnectError)).rawMessage, "m");
    deepEqual(used, ["Unary", "ServerStream", "Unary"]);
    deepEqual(seen, used);
  });
});

test("two-way calls and client streams say why they can't take it", async () => {
  const { baseUrl } = await box({ status: 403 });
  const { used, fallback } = grpcWeb();
  await probed({ baseUrl, fallback }, async ({ client }) => {
    await client.unary({}, scripted({}).options);
    for (const call of [
      () => all(client.bidi(texts("a"), scripted({}).options)),
      () => client.clientStream(texts("a"), scripted({}).options),
    ]) {
      const e = await rejects(call, ConnectError);
      deepEqual([e.code, e.metadata.get("culvert-sent")], [Code.Unavailable, "no"]);
      match(e.rawMessage, noSocket);
      match(e.rawMessage, /need a WebSocket/);
    }
    deepEqual(used, ["Unary"]);
  });
});

test("without SETTINGS a call is withdrawn after a second, and travels one way", async () => {
  const { baseUrl, release, wait, behave } = await box({ hold: true });
  const { used, fallback } = grpcWeb();
  await probed({ baseUrl, fallback }, async ({ client, transport }) => {
    const began = performance.now();
    const unary = scripted({ echo: true });
    const stream = scripted({ replies: 2 });
    const bidi = scripted({ echo: true });
    const running = all(client.bidi(texts("a"), bidi.options));
    const [reply, replies] = await Promise.all([client.unary({ text: "a" }, unary.options), all(client.serverStream({}, stream.options))]);
    deepEqual([reply.text, replies.length, used.splice(0).length], ["a", 2, 2]);
    ok(performance.now() - began > 990);
    equal(transport.state.status, "blocked");
    // What worked is remembered.
    const second = performance.now();
    await client.unary({}, scripted({}).options);
    ok(performance.now() - second < 900);
    equal(used.splice(0).length, 1);
    // The two-way call has waited, and takes the connection when it comes. So do all others then.
    await behave({});
    await release();
    equal((await running)[0]?.text, "a");
    equal(transport.state.status, "connected");
    await client.unary({}, scripted({}).options);
    equal(used.length, 0);
    for (const call of [unary, stream, bidi]) {
      equal((await call.ended()).attempts, 1);
    }
    deepEqual(await wait(), { live: 1, opened: 1 });
  });
});

test("a fallback that fails isn't remembered", async () => {
  const { baseUrl, behave } = await box({ status: 403 });
  const { used, fallback } = grpcWeb("http://127.0.0.1:9");
  await probed({ baseUrl, fallback }, async ({ client, transport }) => {
    await rejects(client.unary({}, scripted({}).options), ConnectError);
    equal(used.length, 1);
    ok(transport.state.status !== "blocked");
    await behave({});
    await client.unary({}, scripted({}).options);
    equal(used.length, 1);
  });
});

test("an error of the backend shows that the fallback works", async () => {
  const { baseUrl } = await box({ hold: true });
  const { used, fallback } = grpcWeb();
  await probed({ baseUrl, fallback }, async ({ client, transport }) => {
    const e = await rejects(client.unary({}, scripted({ code: Code.NotFound, message: "none" }).options), ConnectError);
    deepEqual([e.code, e.rawMessage], [Code.NotFound, "none"]);
    equal(transport.state.status, "blocked");
    equal(used.length, 1);
  });
});

test(
  "what worked is forgotten when the network comes back",
  async () => {
    const { baseUrl, behave } = await box({ status: 403 });
    const { used, fallback } = grpcWeb();
    await probed({ baseUrl, fallback }, async ({ client, transport }) => {
      await client.unary({}, scripted({}).options);
      equal(transport.state.status, "blocked");
      await behave({});
      dispatchEvent(new Event("online"));
      await client.unary({}, scripted({}).options);
      equal(transport.state.status, "connected");
      equal(used.length, 1);
    });
  },
  { page: true },
);

test("a call's deadline and signal hold in the fallback, too", async () => {
  const { baseUrl } = await box({ status: 403 });
  const { fallback } = grpcWeb();
  await probed({ baseUrl, fallback }, async ({ client }) => {
    const late = await overdue(1500, (options) => client.unary({}, options));
    ok((await late.cancelled()).cause);
    const controller = new AbortController();
    const stopped = scripted({ hang: true }, { signal: controller.signal });
    const ended = rejects(all(client.serverStream({}, stopped.options)), ConnectError);
    await stopped.began();
    controller.abort();
    equal((await ended).code, Code.Canceled);
    ok((await stopped.cancelled()).cause);
  });
});

test("a deadline that no timer can keep doesn't end a call in the fallback", async () => {
  const { baseUrl } = await box({ status: 403 });
  const { fallback } = grpcWeb();
  await probed({ baseUrl, fallback }, async ({ client }) => {
    const call = scripted({}, { timeoutMs: 40 * 86_400_000 });
    await client.unary({}, call.options);
    ok((await call.ended()).timeout > 86_400e9);
  });
});
