// The connections under the calls: how many there are, when they come and go, and what becomes of calls then.

import { BinaryWriter, base64Encode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import type { ConnectionState } from "../src/index.js";
import { trace } from "../src/trace.js";
import { all, feed, noSocket, probed, scripted, texts } from "./client.js";
import { ErrorInfoSchema } from "./gen/error_details_pb.js";
import { box, deepEqual, env, equal, match, ok, rejects, test } from "./harness.js";

/** What the error of a call says of the backend. */
function sent(e: ConnectError): string {
  const value = e.metadata.get("culvert-sent") ?? "";
  match(e.rawMessage, value === "no" ? /the backend hasn't seen this call$/ : /the backend may have seen this call$/);
  return value;
}

/** Records the states of a transport, and waits for one. */
function watch(transport: { subscribe(listener: (state: ConnectionState) => void): () => void }) {
  const seen: ConnectionState[] = [];
  let look = () => {};
  const unsubscribe = transport.subscribe((state) => {
    seen.push(state);
    look();
  });
  return {
    statuses: () => seen.map((s) => s.status).filter((s, i, list) => s !== list[i - 1]),
    until: (wanted: (state: ConnectionState) => boolean) =>
      new Promise<ConnectionState>((resolve) => {
        look = () => {
          const found = seen.find(wanted);
          if (found) {
            resolve(found);
          }
        };
        look();
      }),
    unsubscribe,
  };
}

test("the first call opens a connection, which closes when it has been idle for idleTimeoutMs", async () => {
  const { baseUrl, wait } = await box();
  await probed({ baseUrl, idleTimeoutMs: 200 }, async ({ client, transport }) => {
    const { statuses } = watch(transport);
    equal(transport.state.status, "idle");
    equal((await wait()).opened, 0);
    const call = scripted({ hold_all: true, replies: 1 });
    const stream = all(client.serverStream({}, call.options));
    await call.began();
    equal(transport.state.status, "connected");
    await wait(1);
    await call.release();
    await stream;
    await wait(0);
    const again = scripted({ hold_all: true, replies: 1 });
    const second = all(client.serverStream({}, again.options));
    await again.began();
    deepEqual((await wait(1)).opened, 2);
    deepEqual(statuses(), ["idle", "connecting", "connected", "idle", "connecting", "connected"]);
    equal(transport.state.cause, undefined);
    await again.release();
    await second;
  });
  await wait(0);
});

test("a connection with a running stream isn't idle", async () => {
  const { baseUrl, wait } = await box();
  await probed({ baseUrl, idleTimeoutMs: 40 }, async ({ client }) => {
    const call = scripted({ hold_all: true, replies: 1 });
    const stream = all(client.serverStream({}, call.options));
    await call.began();
    await new Promise((resolve) => setTimeout(resolve, 200)); // several times the limit
    await call.release();
    equal((await stream).length, 1);
    equal((await wait()).opened, 1);
  });
});

test("transports of one base URL share a connection", async () => {
  const { baseUrl, wait } = await box();
  await probed({ baseUrl }, ({ client: a, transport: first }) =>
    probed({ baseUrl: `${baseUrl}/` }, async ({ client: b, transport: second }) => {
      await Promise.all([a.unary({}, scripted({}).options), b.unary({}, scripted({}).options)]);
      deepEqual(await wait(), { live: 1, opened: 1 });
      equal(second.state, first.state);
      const call = scripted({ hang: true });
      const running = all(b.serverStream({}, call.options));
      await call.began();
      first.close();
      await b.unary({}, scripted({}).options);
      deepEqual(await wait(), { live: 1, opened: 1 });
      second.close();
      equal((await rejects(running, ConnectError)).code, Code.Canceled);
      await wait(0);
    }),
  );
});

test("further subprotocols are offered after h2ts, anew for each connection", async () => {
  const { baseUrl, cut, wait } = await box();
  const offered: string[][] = [];
  class Socket extends env.WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      offered.push(protocols);
    }
  }
  let count = 0;
  const protocols = async () => [`token.${++count}`];
  await probed({ baseUrl, webSocket: Socket, protocols }, ({ client: a }) =>
    probed({ baseUrl, webSocket: Socket, protocols: () => ["other"] }, async ({ client: b }) => {
      await a.unary({}, scripted({}).options);
      await cut();
      await wait(0);
      await a.unary({}, scripted({}).options);
      await b.unary({}, scripted({}).options);
      deepEqual(offered, [
        ["h2ts", "token.1"],
        ["h2ts", "token.2"],
        ["h2ts", "other"],
      ]);
    }),
  );
});

test("close ends running calls, can be repeated, and isn't for good", async () => {
  const { baseUrl, wait } = await box();
  await probed({ baseUrl }, async ({ client, transport }) => {
    transport.close();
    const call = scripted({ hang: true });
    const requests = feed<{ text: string }>();
    requests.push({ text: "a" });
    const unary = rejects(client.unary({}, scripted({ hang: true }).options), ConnectError);
    const stream = rejects(all(client.bidi(requests.stream, call.options)), ConnectError);
    await call.began();
    transport.close();
    transport.close();
    for (const e of [await unary, await stream]) {
      equal(e.code, Code.Canceled);
      match(e.rawMessage, /transport was closed/);
    }
    await requests.returned;
    ok((await call.cancelled()).cause);
    await wait(0);
    equal(transport.state.status, "idle");
    await client.unary({}, scripted({}).options);
    deepEqual(await wait(1), { live: 1, opened: 2 });
  });
  await wait(0);
});

test("close right after a call opens nothing", async () => {
  const { baseUrl, wait } = await box();
  await probed({ baseUrl }, async ({ client, transport }) => {
    const call = client.unary({}, scripted({}).options);
    transport.close();
    equal((await rejects(call, ConnectError)).code, Code.Canceled);
    await client.unary({}, scripted({}).options);
    deepEqual(await wait(1), { live: 1, opened: 1 });
  });
});

test("close gives up an attempt", async () => {
  const { baseUrl, wait } = await box({ hold: true });
  await probed({ baseUrl }, async ({ client, transport }) => {
    const call = rejects(client.unary({}, scripted({}).options), ConnectError);
    await wait(1);
    transport.close();
    equal((await call).code, Code.Canceled);
    await wait(0);
    equal(transport.state.status, "idle");
  });
});

for (const maxStreams of [1, 100]) {
  test(`500 calls with a limit of ${maxStreams} streams`, async () => {
    const { baseUrl, wait } = await box({ maxStreams });
    await probed({ baseUrl }, async ({ client, transport }) => {
      const { until } = watch(transport);
      const replies = await Promise.all(
        Array.from({ length: 500 }, (_, i) => client.unary({ text: String(i) }, scripted({ echo: true }).options)),
      );
      deepEqual(
        replies.map((r) => r.text),
        Array.from({ length: 500 }, (_, i) => String(i)),
      );
      ok((await until((s) => s.waiting > 100)).waiting);
      ok((await wait()).opened <= 10);
      equal(transport.state.waiting, 0);
    });
  });
}

test("500 streams at a time take further connections, and wait visibly until they have them", async () => {
  const { baseUrl, wait } = await box({ maxStreams: 100 });
  await probed({ baseUrl, idleTimeoutMs: 400 }, async ({ client, transport }) => {
    const { until } = watch(transport);
    const calls = Array.from({ length: 500 }, () => scripted({ echo: true }));
    const requests = calls.map(() => feed<{ text: string }>());
    const streams = requests.map(({ stream }, i) => all(client.bidi(stream, calls[i]?.options)));
    ok((await until((s) => s.status === "connected" && s.waiting > 0)).waiting >= 400);
    for (const call of calls) {
      await call.began();
    }
    deepEqual(await wait(), { live: 5, opened: 5 });
    for (const r of requests) {
      r.push({ text: "a" });
      r.end();
    }
    for (const replies of await Promise.all(streams)) {
      deepEqual(
        replies.map((r) => r.text),
        ["a"],
      );
    }
    await wait(0);
  });
});

test("a refused stream is sent again", async () => {
  const { baseUrl } = await box({ refuse: 3 });
  await probed({ baseUrl }, async ({ client }) => {
    const unary = scripted({ echo: true });
    equal((await client.unary({ payload: new Uint8Array(100_000) }, unary.options)).payload.length, 100_000);
    equal((await unary.ended()).attempts, 1);
  });
  const { baseUrl: other, behave } = await box({ refuse: 2 });
  await probed({ baseUrl: other }, async ({ client }) => {
    const bidi = scripted({ echo: true });
    deepEqual(
      (await all(client.bidi(texts("a", "b", "c"), bidi.options))).map((r) => r.text),
      ["a", "b", "c"],
    );
    await behave({ refuse: 1 });
    equal((await all(client.serverStream({ payload: new Uint8Array(100_000) }, scripted({ replies: 2 }).options))).length, 2);
    await behave({ refuse: 100 });
    const e = await rejects(client.unary({}, scripted({}).options), ConnectError);
    deepEqual([e.code, sent(e)], [Code.Unavailable, "no"]);
  });
});

test("a refused stream that has sent more than is kept ends", async () => {
  const { baseUrl } = await box({ refuse: 1 });
  await probed({ baseUrl }, async ({ client }) => {
    async function* large() {
      yield { payload: new Uint8Array(70_000) };
    }
    const call = scripted({ echo: true });
    const e = await rejects(all(client.bidi(large(), call.options)), ConnectError);
    deepEqual([e.code, sent(e)], [Code.Unavailable, "no"]);
    equal((await call.now()).attempts, 0);
    equal((await all(client.bidi(large(), scripted({ echo: true }).options))).length, 1);
  });
});

/** The script of a call that culvert has ended itself, which sends such details. */
function culvertEnds(sentWord: "no" | "maybe", retryMs = 0) {
  const field = (number: number, bytes: Uint8Array) => Uint8Array.from([number * 8 + 2, bytes.length, ...bytes]);
  const text = (s: string) => new TextEncoder().encode(s);
  const bytes = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));
  const any = (type: string, value: Uint8Array) => field(3, bytes(field(1, text(`type.googleapis.com/${type}`)), field(2, value)));
  const entry = (key: string, value: string) => field(3, bytes(field(1, text(key)), field(2, text(value))));
  const info = bytes(field(1, text("DRAINING")), field(2, text("culvert")), entry("call_id", "1"), entry("sent", sentWord));
  const pause = new BinaryWriter()
    .uint32(8)
    .uint32(Math.floor(retryMs / 1000))
    .uint32(16)
    .uint32((retryMs % 1000) * 1e6)
    .finish();
  const status = bytes(
    Uint8Array.from([8, Code.Unavailable]),
    field(2, text("ended by culvert")),
    any("google.rpc.ErrorInfo", info),
    any("google.rpc.RetryInfo", field(1, pause)),
  );
  const details = { name: "grpc-status-details-bin", bytes: base64Encode(status) };
  return scripted({ code: Code.Unavailable, message: "ended by culvert", trailer: [details] });
}

test(
  "a call that culvert hasn't sent to a backend is sent again, after the pause that culvert asks for",
  async () => {
    const { baseUrl } = await box();
    await probed({ baseUrl }, async ({ client }) => {
      const began = performance.now();
      const unsent = culvertEnds("no", 150);
      const e = await rejects(client.unary({}, unsent.options), ConnectError);
      deepEqual([e.code, e.rawMessage, e.findDetails(ErrorInfoSchema)[0]?.metadata.sent], [Code.Unavailable, "ended by culvert", "no"]);
      equal((await unsent.ended()).attempts, 5);
      ok(performance.now() - began >= 4 * 150);
      const sentMaybe = culvertEnds("maybe");
      await rejects(client.unary({}, sentMaybe.options), ConnectError);
      equal((await sentMaybe.ended()).attempts, 1);
      const late = culvertEnds("no", 31_000);
      await rejects(client.unary({}, late.options), ConnectError);
      equal((await late.ended()).attempts, 1);
    });
  },
  { waits: true },
);

test("after GOAWAY running calls go on and others take a new connection", async () => {
  const { baseUrl, goaway, wait } = await box();
  await probed({ baseUrl }, async ({ client, transport }) => {
    const call = scripted({ echo: true });
    const requests = feed<{ text: string }>();
    const stream = all(client.bidi(requests.stream, call.options));
    await call.began();
    const { until } = watch(transport);
    await goaway();
    await until((s) => s.status !== "connected");
    await client.unary({}, scripted({}).options);
    deepEqual(await wait(2), { live: 2, opened: 2 });
    requests.push({ text: "a" });
    requests.end();
    equal((await stream)[0]?.text, "a");
    await wait(1);
  });
});

test("a cut ends calls that the backend may have seen", async () => {
  const { baseUrl, cut, wait } = await box();
  await probed({ baseUrl }, async ({ client, transport }) => {
    const silent = scripted({ hang: true });
    const early = scripted({ hang: true, header_early: true, replies_first: true, replies: 1 });
    const unary = rejects(client.unary({}, silent.options), ConnectError);
    let replies = 0;
    let answered = () => {};
    const first = new Promise<void>((resolve) => {
      answered = resolve;
    });
    const stream = rejects(async () => {
      for await (const _ of client.serverStream({}, early.options)) {
        replies++;
        answered();
      }
    }, ConnectError);
    await silent.began();
    await first;
    await cut();
    for (const e of [await unary, await stream]) {
      deepEqual([e.code, sent(e)], [Code.Unavailable, "maybe"]);
      match(e.rawMessage, noSocket);
    }
    equal(replies, 1);
    equal((await silent.ended()).attempts, 1);
    await client.unary({}, scripted({}).options);
    deepEqual(await wait(1), { live: 1, opened: 2 });
    equal(transport.state.status, "connected");
  });
});

test("a call that waits for SETTINGS survives a cut, and nothing is sent before them", async () => {
  const { baseUrl, cut, behave, wait, release } = await box({ hold: true });
  const written: number[] = [];
  let wrote = () => {};
  const writes = async (count: number) => {
    while (written.length < count) {
      await new Promise<void>((resolve) => {
        wrote = resolve;
      });
    }
  };
  class Socket extends env.WebSocket {
    override send(data: Uint8Array<ArrayBuffer>) {
      written.push(data.length);
      wrote();
      super.send(data);
    }
  }
  await probed({ baseUrl, webSocket: Socket }, async ({ client, transport }) => {
    const { until } = watch(transport);
    const call = scripted({ echo: true });
    const reply = client.unary({ text: "a" }, call.options);
    await wait(1);
    await writes(1); // later, on a busy machine
    await behave({ hold: true });
    await cut();
    await until((s) => s.status === "reconnecting");
    await wait(1);
    await writes(2);
    deepEqual(written, [51, 51]);
    await release();
    equal((await reply).text, "a");
    equal((await call.ended()).attempts, 1);
  });
});

test(
  "an unreachable server is reported with its cause",
  async () => {
    const unreachable = async (baseUrl: string, why: RegExp) =>
      probed({ baseUrl }, async ({ client, transport }) => {
        const { until } = watch(transport);
        const call = rejects(all(client.bidi(texts("a"), scripted({}).options)), ConnectError);
        const { retryAt = 0 } = await until((s) => s.status === "reconnecting" && s.retryAt !== undefined);
        ok(retryAt - Date.now() < 1000);
        const e = await call;
        deepEqual([e.code, sent(e)], [Code.Unavailable, "no"]);
        match(e.rawMessage, why);
        match(transport.state.cause ?? "", why);
      });
    await Promise.all([
      unreachable((await box({ status: 403 })).baseUrl, noSocket),
      unreachable((await box({ status: 404 })).baseUrl, noSocket),
      unreachable((await box({ noProtocol: true })).baseUrl, /WebSocket (closed|failed)|h2ts/), // Node and the package ws refuse the answer themselves
      unreachable("http://127.0.0.1:2", noSocket), // a dead port
      unreachable("http://127.0.0.1:9", noSocket), // a port that browsers don't call
    ]);
  },
  { waits: true },
);

test("a WebSocket that fails without a close event is reported", async () => {
  // As Node 22's does, which also stays in the state CONNECTING.
  class Failing extends EventTarget {
    readyState = 0;
    onerror?: (e: unknown) => void;
    constructor() {
      super();
      queueMicrotask(() => this.onerror?.({ type: "error", message: "non-101 status code" }));
    }
    close() {}
  }
  await probed(
    { baseUrl: "http://127.0.0.1:9/failing", webSocket: Failing as unknown as typeof WebSocket },
    async ({ client, transport }) => {
      const { until } = watch(transport);
      const stop = new AbortController();
      const call = rejects(client.unary({}, { signal: stop.signal }), ConnectError);
      const { cause = "" } = await until((s) => s.status === "reconnecting");
      match(cause, /^WebSocket failed: non-101 status code$/);
      stop.abort();
      await call;
    },
  );
});

test(
  "an upgrade without an answer is given up after ten seconds",
  async () => {
    const { path, behave } = await box({ silent: true });
    // Browsers open the WebSockets of an address one after the other, so this one would hold up those of other tests.
    await probed({ baseUrl: env.servers.beside + path }, async ({ client }) => {
      const late = await rejects(client.unary({}, scripted({}, { timeoutMs: 100 }).options), ConnectError);
      equal(late.code, Code.DeadlineExceeded);
      const e = await rejects(client.unary({}, scripted({}).options), ConnectError);
      deepEqual([e.code, sent(e)], [Code.Unavailable, "no"]);
      match(e.rawMessage, /SETTINGS/);
      await behave({});
      await client.unary({}, scripted({}).options);
    });
  },
  { waits: true },
);

for (const code of [1012, 1013]) {
  test(`after ${code} a call waits for 5 to 30 seconds`, async () => {
    const { baseUrl, close } = await box();
    await probed({ baseUrl }, async ({ client, transport }) => {
      const running = scripted({ hang: true });
      const ended = rejects(client.unary({}, running.options), ConnectError);
      await running.began();
      await close(code, "later");
      const e = await ended;
      equal(sent(e), "maybe");
      match(e.rawMessage, /later/);
      const { until } = watch(transport);
      const abort = new AbortController();
      const next = rejects(client.unary({}, scripted({}, { signal: abort.signal }).options), ConnectError);
      const { retryAt = 0 } = await until((s) => s.status === "reconnecting" && s.waiting === 1);
      ok(retryAt - Date.now() > 4000 && retryAt - Date.now() < 30_000, String(retryAt - Date.now()));
      abort.abort();
      await next;
    });
  });
}

test(
  "an error names the protocols function that failed",
  async () => {
    const { baseUrl } = await box();
    await probed({ baseUrl, protocols: () => Promise.reject(new Error("no token")) }, async ({ client }) => {
      match((await rejects(client.unary({}, scripted({}).options), ConnectError)).rawMessage, /protocols: Error: no token/);
    });
  },
  { waits: true },
);

test("an error names the option webSocket if the platform has no WebSocket", async () => {
  const { WebSocket } = globalThis;
  Object.assign(globalThis, { WebSocket: undefined });
  try {
    await probed({ baseUrl: "http://127.0.0.1:9", webSocket: undefined }, async ({ client, transport }) => {
      const e = await rejects(client.unary({}, scripted({}).options), ConnectError);
      match(e.rawMessage, /no WebSocket here: set the option webSocket; the backend hasn't/);
      equal(transport.state.status, "blocked");
    });
  } finally {
    Object.assign(globalThis, { WebSocket });
  }
});

test("a listener that has unsubscribed is called no more", async () => {
  const { baseUrl } = await box();
  await probed({ baseUrl }, async ({ client, transport }) => {
    const seen: string[] = [];
    const stop = transport.subscribe((s) => seen.push(s.status));
    stop();
    stop();
    await client.unary({}, scripted({}).options);
    deepEqual(seen, ["idle"]);
  });
});

test("a call that meets a closing WebSocket is sent on the next one", async () => {
  const { baseUrl } = await box();
  const sockets: WebSocket[] = [];
  class Socket extends env.WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      sockets.push(this);
    }
  }
  await probed({ baseUrl, webSocket: Socket }, async ({ client }) => {
    await client.unary({}, scripted({}).options);
    sockets[0]?.close(); // its state is CLOSING, as after the server's close frame, until the server has answered
    const [unary, bidi] = [scripted({ echo: true }), scripted({ echo: true })];
    const [reply, replies] = await Promise.all([
      client.unary({ text: "a" }, unary.options),
      all(client.bidi(texts("b", "c"), bidi.options)),
    ]);
    deepEqual(
      [reply, ...replies].map((r) => r.text),
      ["a", "b", "c"],
    );
    for (const call of [unary, bidi]) {
      equal((await call.ended()).attempts, 1);
    }
    equal(sockets.length, 2);
  });
});

test("nobody looks at a WebSocket that has ended with bytes in its buffer", async () => {
  const { baseUrl } = await box();
  let looked = 0;
  class Stuck extends env.WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      Object.defineProperty(this, "bufferedAmount", {
        get() {
          looked++;
          return 2 ** 21;
        },
      });
    }
  }
  await probed({ baseUrl, webSocket: Stuck }, async ({ client, transport }) => {
    const { until } = watch(transport);
    const stop = new AbortController();
    const call = rejects(client.unary({}, scripted({}, { signal: stop.signal }).options), ConnectError);
    match((await until((s) => s.status === "reconnecting")).cause ?? "", /the server sends but doesn't read/);
    stop.abort();
    await call;
    transport.close();
    const before = looked;
    ok(before > 0);
    for (let i = 0; i < 20; i++) {
      await new Promise((resolve) => setTimeout(resolve, 5)); // a timer would look meanwhile
    }
    equal(looked, before);
  });
});

test("a page that may not open the WebSocket is told so at once, however often it asks", async () => {
  class Forbidden {
    constructor() {
      throw new Error("forbidden");
    }
  }
  const webSocket = Forbidden as unknown as typeof WebSocket;
  await probed({ baseUrl: "http://127.0.0.1:9/forbidden", webSocket }, async ({ client, transport }) => {
    const pauses: (number | undefined)[] = [];
    transport.subscribe(({ retryAt }) => pauses.push(retryAt));
    for (let i = 0; i < 5; i++) {
      match((await rejects(client.unary({}), ConnectError)).rawMessage, /this page can't open .*: Error: forbidden/);
      equal(transport.state.status, "blocked");
    }
    deepEqual(
      pauses.filter((at) => at),
      [],
    );
  });
});

for (const how of ["a signal", "close"]) {
  test(`calls that wait when ${how} ends them are never sent`, async () => {
    const { baseUrl } = await box({ maxStreams: 1 });
    let begun = 0;
    const print = (line: string) => {
      begun += Number(line.includes("): begins; "));
    };
    await probed({ baseUrl, webSocket: trace({ print, webSocket: env.WebSocket }) }, async ({ client, transport }) => {
      const { until } = watch(transport);
      const controller = new AbortController();
      const calls = Array.from({ length: 8 }, () => scripted({ hang: true }, { signal: controller.signal }));
      const ended = calls.map((call) => rejects(client.unary({}, call.options), ConnectError));
      await until((s) => s.status === "connected" && s.waiting > 0);
      await calls[0]?.began();
      const before = begun;
      if (how === "close") {
        transport.close();
      } else {
        controller.abort();
      }
      for (const e of await Promise.all(ended)) {
        equal(e.code, Code.Canceled);
      }
      await client.unary({}, scripted({}).options);
      equal(begun, before + 1);
    });
  });
}
