// Calls of all four kinds, as a page makes them.

import { Code, ConnectError, createContextKey, createContextValues, decodeBinaryHeader, type Interceptor } from "@connectrpc/connect";
import { convert } from "../src/grpc.js";
import { all, feed, overdue, probed, scripted, texts } from "./client.js";
import { ErrorInfoSchema, HelpSchema } from "./gen/error_details_pb.js";
import { deepEqual, equal, match, ok, rejects, test, testServers } from "./harness.js";

testServers("a unary call", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const call = scripted({ echo: true });
    const reply = await client.unary({ text: "héllo" }, call.options);
    equal(reply.text, "héllo");
    equal((await call.ended()).code, "OK");
  }),
);

testServers("a server stream", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const replies = await all(client.serverStream({}, scripted({ replies: 5, reply_bytes: 70_000 }).options));
    deepEqual(
      replies.map((r) => [r.sequence, r.payload.length]),
      [0, 1, 2, 3, 4].map((i) => [BigInt(i), 70_000]),
    );
  }),
);

testServers("a client stream", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const call = scripted({});
    const reply = await client.clientStream(texts("a", "b", "c"), call.options);
    equal(reply.received, 3n);
    equal((await call.ended()).half_closed, true);
  }),
);

testServers("a two-way stream answers each request before the next is made", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const requests = feed<{ text: string }>();
    requests.push({ text: "0" });
    let i = 0;
    for await (const { text } of client.bidi(requests.stream, scripted({ echo: true }).options)) {
      equal(text, String(i));
      if (++i < 20) {
        requests.push({ text: String(i) });
      } else {
        requests.end();
      }
    }
    equal(i, 20);
  }),
);

testServers("a stream without replies, and replies without bytes", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    deepEqual(await all(client.bidi(texts(), scripted({}).options)), []);
    equal((await all(client.serverStream({}, scripted({ replies: 3, empty_replies: true }).options))).length, 3);
  }),
);

testServers("metadata crosses both ways", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    for (const kind of ["unary", "serverStream", "bidi", "clientStream"] as const) {
      const headers = new Headers({ "x-one": "1", "x-two-bin": "AAEC", "x-latin": "a, b" });
      headers.append("x-many", "1");
      headers.append("x-many", "2");
      headers.append("x-two-bin", "/w==");
      const call = scripted(
        {
          echo_metadata: true,
          replies: kind === "clientStream" ? 1 : kind === "unary" ? 0 : 2,
          header: [
            { name: "x-a", value: "1" },
            { name: "x-a", value: "2" },
            { name: "x-b-bin", bytes: "AAEC" },
          ],
          trailer: [
            { name: "x-t", value: "t" },
            { name: "x-t-bin", bytes: "/w==" },
          ],
        },
        { headers },
      );
      let header = new Headers();
      let trailer = new Headers();
      const options = {
        ...call.options,
        onHeader(h: Headers) {
          header = h;
        },
        onTrailer(t: Headers) {
          trailer = t;
        },
      };
      const replies =
        kind === "unary"
          ? [await client.unary({}, options)]
          : kind === "clientStream"
            ? [await client.clientStream(texts("a"), options)]
            : await all(kind === "bidi" ? client.bidi(texts("a"), options) : client.serverStream({}, options));
      const seen = Object.fromEntries(replies[0]?.metadata.map((f) => [f.name, f.values]) ?? []);
      const text = (values: Uint8Array[] | undefined) => values?.map((v) => new TextDecoder().decode(v));
      deepEqual(text(seen["x-one"]), ["1"], kind);
      deepEqual(text(seen["x-latin"]), ["a, b"], kind);
      deepEqual(text(seen["x-many"]), ["1, 2"], kind);
      deepEqual(
        seen["x-two-bin"]?.map((v) => [...v]),
        [[0, 1, 2], [255]],
        kind,
      );
      equal(header.get("x-a"), "1, 2", kind);
      deepEqual([...decodeBinaryHeader(header.get("x-b-bin") ?? "")], [0, 1, 2], kind);
      equal(trailer.get("x-t"), "t", kind);
      deepEqual([...decodeBinaryHeader(trailer.get("x-t-bin") ?? "")], [255], kind);
    }
  }),
);

testServers("names that HTTP/2 forbids don't break a call", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const headers = {
      connection: "close",
      "keep-alive": "1",
      "transfer-encoding": "chunked",
      upgrade: "h2c",
      host: "other",
      "content-length": "5",
      te: "x",
    };
    equal((await client.unary({ text: "a" }, scripted({ echo: true }, { headers }).options)).text, "a");
  }),
);

testServers("an error has its code, message, details and metadata", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const script = {
      code: Code.FailedPrecondition,
      message: "naïve ☃ 100%, \r\n%zz",
      rich: true,
      header: [{ name: "x-h", value: "h" }],
      trailer: [{ name: "x-t", value: "t" }],
    };
    const check = (e: ConnectError, hint: string) => {
      equal(e.code, Code.FailedPrecondition, hint);
      equal(e.rawMessage, script.message, hint);
      const [info] = e.findDetails(ErrorInfoSchema);
      deepEqual([info?.reason, info?.domain, info?.metadata], ["RICH", "probe", { key: "naïve ☃ %, \r\n" }], hint);
      equal(e.findDetails(HelpSchema).length, 1, hint);
      const last = e.details.at(-1);
      ok(last && "type" in last && last.type === "of.Nobody" && last.value.length === 257, hint);
      equal(e.metadata.get("x-t"), "t", hint);
    };
    check(await rejects(client.unary({}, scripted(script).options), ConnectError), "unary");
    check(await rejects(all(client.serverStream({}, scripted(script).options)), ConnectError), "trailers-only");
    const late: number[] = [];
    const e = await rejects(async () => {
      for await (const reply of client.serverStream({}, scripted({ ...script, replies: 2 }).options)) {
        late.push(Number(reply.sequence));
      }
    }, ConnectError);
    check(e, "after replies");
    equal(e.metadata.get("x-h"), "h");
    deepEqual(late, [0, 1]);
    check(await rejects(client.clientStream(texts("a"), scripted(script).options), ConnectError), "client stream");
    check(await rejects(all(client.bidi(texts("a"), scripted(script).options)), ConnectError), "two-way");
  }),
);

testServers("every code arrives", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    for (let code = 1; code <= 16; code++) {
      const e = await rejects(client.unary({}, scripted({ code, message: "m" }).options), ConnectError);
      deepEqual([e.code, e.rawMessage], [code, "m"]);
    }
  }),
);

testServers("a code that gRPC doesn't have is unknown", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    for (const script of [{}, { replies: 1 }]) {
      const e = await rejects(all(client.serverStream({}, scripted({ ...script, code: 99, message: "m" }).options)), ConnectError);
      deepEqual([e.code, e.rawMessage, e.metadata.get("x-grpc-status-original")], [Code.Unknown, "m", "99"]);
    }
  }),
);

testServers("an unknown method is unimplemented", (baseUrl) =>
  probed({ baseUrl }, async ({ transport, client }) => {
    const { Probe } = await import("./gen/probe_pb.js");
    const method = { ...Probe.method.unary, name: "Nothing" } as typeof Probe.method.unary;
    const e = await rejects(transport.unary(method, undefined, undefined, undefined, {}), ConnectError);
    equal(e.code, Code.Unimplemented);
    await client.unary({}, scripted({}).options);
  }),
);

testServers("a deadline ends a call here and at the backend", (baseUrl) =>
  probed({ baseUrl, defaultTimeoutMs: 3_600_000 }, async ({ client }) => {
    for (const kind of ["unary", "serverStream", "bidi"] as const) {
      const call = await overdue(
        500,
        (options) =>
          kind === "unary"
            ? client.unary({}, options)
            : all(kind === "bidi" ? client.bidi(texts("a"), options) : client.serverStream({}, options)),
        { header_early: true },
      );
      ok((await call.cancelled()).timeout > 0, kind);
    }
    const free = scripted({});
    await client.unary({}, { ...free.options, timeoutMs: 0 });
    equal((await free.ended()).timeout, 0);
    const long = scripted({});
    await client.unary({}, long.options);
    ok((await long.ended()).timeout > 3_500e9);
    const days = scripted({});
    await client.unary({}, { ...days.options, timeoutMs: 40 * 86_400_000 });
    ok((await days.ended()).timeout > 39 * 86_400e9);
  }),
);

testServers("a signal cancels a call, and the backend's", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    for (const kind of ["unary", "serverStream", "clientStream", "bidi"] as const) {
      const controller = new AbortController();
      const call = scripted({ hang: true }, { signal: controller.signal });
      const requests = feed<{ text: string }>();
      requests.push({ text: "a" });
      if (kind !== "clientStream") {
        requests.end();
      }
      const ended = rejects(
        kind === "unary"
          ? client.unary({}, call.options)
          : kind === "clientStream"
            ? client.clientStream(requests.stream, call.options)
            : all(kind === "bidi" ? client.bidi(requests.stream, call.options) : client.serverStream({}, call.options)),
        ConnectError,
      );
      await call.began();
      controller.abort();
      equal((await ended).code, Code.Canceled, kind);
      ok((await call.cancelled()).cause, kind);
      if (kind === "bidi" || kind === "clientStream") {
        await requests.returned;
      }
    }
  }),
);

testServers("a signal that is aborted already sends nothing", (baseUrl) =>
  probed({ baseUrl }, async ({ client, transport }) => {
    const call = scripted({}, { signal: AbortSignal.abort(new Error("no need")) });
    const e = await rejects(client.unary({}, call.options), ConnectError);
    deepEqual([e.code, e.rawMessage], [Code.Canceled, "no need"]);
    const s = await rejects(all(client.bidi(texts("a"), call.options)), ConnectError);
    equal(s.code, Code.Canceled);
    equal(transport.state.status, "idle");
    equal((await call.now()).attempts, 0);
  }),
);

testServers(
  "a break of the loop cancels the call",
  (baseUrl) =>
    probed({ baseUrl }, async ({ client }) => {
      const call = scripted({ replies: 2, hold_after: 1 });
      const requests = feed<{ text: string }>();
      for await (const _ of client.bidi(requests.stream, scripted({ replies_first: true, replies: 1 }).options)) {
        break;
      }
      await requests.returned;
      for await (const _ of client.serverStream({}, call.options)) {
        break;
      }
      ok((await call.cancelled()).cause);
    }),
  { oldest: false }, // connect-es before 2.3 doesn't tell the transport
);

testServers("an early answer ends the requests", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const requests = feed<{ text: string }>();
    requests.push({ text: "a" });
    const replies = await all(client.bidi(requests.stream, scripted({ read: "none", replies: 2 }).options));
    equal(replies.length, 2);
    await requests.returned;
    const others = feed<{ text: string }>();
    others.push({ text: "a" });
    const e = await rejects(client.clientStream(others.stream, scripted({ read: "one", code: 9 }).options), ConnectError);
    equal(e.code, 9);
    await others.returned;
    await client.unary({}, scripted({}).options);
  }),
);

testServers("an early answer comes whole while the requests still flow", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    async function* endless() {
      for (;;) {
        yield { payload: new Uint8Array(10_000) };
      }
    }
    const replies = await all(client.bidi(endless(), scripted({ read: "one", replies: 20, reply_bytes: 50_000 }).options));
    equal(replies.length, 20);
  }),
);

testServers("the error of the page's requests ends the call", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const call = scripted({ echo: true });
    async function* broken() {
      yield { text: "a" };
      await call.began();
      throw new Error("the page's own");
    }
    const e = await rejects(all(client.bidi(broken(), call.options)), ConnectError);
    equal(e.rawMessage, "the page's own");
    ok((await call.cancelled()).cause);
  }),
);

testServers("gzip in both directions", (baseUrl, server) =>
  probed({ baseUrl, gzip: true }, async ({ client }) => {
    const text = "compress me ".repeat(10_000);
    const call = scripted({ echo: true });
    equal((await client.unary({ text }, call.options)).text, text);
    equal((await call.ended()).encoding, "gzip", server);
    const stream = scripted({ echo: true });
    deepEqual(
      (await all(client.bidi(texts(text, "short", text), stream.options))).map((r) => r.text),
      [text, "short", text],
    );
    equal((await stream.ended()).encoding, "gzip");
  }),
);

testServers("messages over a limit end their call", (baseUrl) =>
  probed({ baseUrl, readMaxBytes: 1000, writeMaxBytes: 1000 }, async ({ client }) => {
    const read = await rejects(client.unary({}, scripted({ reply_bytes: 1000 }).options), ConnectError);
    equal(read.code, Code.ResourceExhausted);
    match(read.rawMessage, /readMaxBytes/);
    const call = scripted({});
    const written = await rejects(client.unary({ payload: new Uint8Array(1000) }, call.options), ConnectError);
    equal(written.code, Code.ResourceExhausted);
    match(written.rawMessage, /writeMaxBytes/);
    const stream = scripted({ replies: 3, reply_bytes: 2000 });
    equal((await rejects(all(client.serverStream({}, stream.options)), ConnectError)).code, Code.ResourceExhausted);
    await client.unary({ payload: new Uint8Array(900) }, scripted({ reply_bytes: 900 }).options);
  }),
);

testServers("a bomb of gzip is stopped at the limit", (baseUrl) =>
  probed({ baseUrl, gzip: true, writeMaxBytes: 1 << 23, readMaxBytes: 100_000 }, async ({ client }) => {
    const e = await rejects(client.unary({ payload: new Uint8Array(1 << 22) }, scripted({ echo: true }).options), ConnectError);
    equal(e.code, Code.ResourceExhausted);
  }),
);

testServers("interceptors see and change a call", async (baseUrl) => {
  const key = createContextKey("unset");
  const seen: unknown[] = [];
  const interceptor: Interceptor = (next) => async (request) => {
    seen.push(
      request.method.name,
      request.stream,
      request.url,
      request.requestMethod,
      request.contextValues.get(key),
      request.header.get("x-own"),
    );
    request.header.set("x-added", "yes");
    const response = await next(request);
    if (!response.stream) {
      seen.push(response.header.get("x-h"), response.trailer.get("x-t"));
      return response;
    }
    return {
      ...response,
      message: (async function* () {
        for await (const message of response.message) {
          seen.push("reply");
          yield message;
        }
        seen.push(response.trailer.get("x-t"));
      })(),
    };
  };
  const order: Interceptor = (next) => (request) => {
    seen.push("outer");
    return next(request);
  };
  await probed({ baseUrl, interceptors: [order, interceptor] }, async ({ client }) => {
    const script = { echo_metadata: true, replies: 1, header: [{ name: "x-h", value: "h" }], trailer: [{ name: "x-t", value: "t" }] };
    const contextValues = createContextValues().set(key, "set");
    const url = `${baseUrl}/culvert.e2e.v1.Probe/`;
    const reply = await client.unary(
      {},
      { ...scripted({ ...script, replies: 0 }, { headers: { "x-own": "own" } }).options, contextValues },
    );
    ok(reply.metadata.some((f) => f.name === "x-added"));
    deepEqual(seen.splice(0), ["outer", "Unary", false, `${url}Unary`, "POST", "set", "own", "h", "t"]);
    const replies = await all(client.serverStream({}, scripted(script).options));
    ok(replies[0]?.metadata.some((f) => f.name === "x-added"));
    deepEqual(seen.splice(0), ["outer", "ServerStream", true, `${url}ServerStream`, "POST", "unset", null, "reply", "t"]);
  });
});

testServers("an interceptor refreshes a token that has expired", async (baseUrl) => {
  let token = "old";
  const asked: string[] = [];
  const refresh: Interceptor = (next) => async (request) => {
    try {
      return await next(request);
    } catch (e) {
      if (ConnectError.from(e).code !== Code.Unauthenticated) {
        throw e;
      }
      token = "new";
      request.header.delete("probe-script");
      return next(request);
    }
  };
  const provider = async () => {
    asked.push(token);
    return token;
  };
  await probed({ baseUrl, interceptors: [refresh], token: provider }, async ({ client }) => {
    await client.unary({}, scripted({ code: Code.Unauthenticated }).options);
    deepEqual(asked.splice(0), ["old", "new"]);
    const bearer = async (headers?: HeadersInit) => {
      const reply = await client.unary({}, scripted({ echo_metadata: true }, { headers: headers ?? {} }).options);
      return new TextDecoder().decode(reply.metadata.find((f) => f.name === "authorization")?.values[0]);
    };
    equal(await bearer(), "Bearer new");
    equal(await bearer({ authorization: "Basic own" }), "Basic own");
  });
});

testServers("UNAUTHENTICATED in a running stream reaches the page", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    let replies = 0;
    const e = await rejects(async () => {
      for await (const _ of client.bidi(texts("a"), scripted({ echo: true, code: Code.Unauthenticated, message: "expired" }).options)) {
        replies++;
      }
    }, ConnectError);
    deepEqual([replies, e.code, e.rawMessage], [1, Code.Unauthenticated, "expired"]);
  }),
);

testServers("a token provider that fails ends the call, and a deadline one that hangs", async (baseUrl) => {
  await probed({ baseUrl, token: () => Promise.reject(new Error("no token")) }, async ({ client }) => {
    match((await rejects(client.unary({}, scripted({}).options), ConnectError)).rawMessage, /no token/);
  });
  await probed({ baseUrl, token: () => new Promise<string>(() => {}) }, async ({ client }) => {
    equal((await rejects(client.unary({}, { ...scripted({}).options, timeoutMs: 50 }), ConnectError)).code, Code.DeadlineExceeded);
  });
});

test("of a bomb of gzip little is read", async () => {
  const bomb = await convert(new Uint8Array(1 << 26), new CompressionStream("gzip"), 1 << 30);
  const { readable, writable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  let read = 0;
  const counted = new WritableStream<Uint8Array<ArrayBuffer>>({
    write(bytes) {
      read += bytes.length;
      return writer.write(bytes);
    },
  });
  const e = await rejects(convert(bomb, { readable, writable: counted } as unknown as DecompressionStream, 1 << 20), ConnectError);
  equal(e.code, Code.ResourceExhausted);
  ok(bomb.length > 60_000 && read < 50_000, `${read} of ${bomb.length} bytes`);
});
