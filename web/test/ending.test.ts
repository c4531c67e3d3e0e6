// How calls end whatever the caller does meanwhile, and whatever its input is.

import { Code, ConnectError, createContextValues, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { type AnyRequest, call as runCall } from "../src/call.js";
import type { Connections } from "../src/connections.js";
import { type Connection, H2Error, type Stream } from "../src/h2/index.js";
import { all, probed, scripted } from "./client.js";
import { Probe } from "./gen/probe_pb.js";
import { box, deepEqual, env, equal, ok, rejects, test, testServers } from "./harness.js";

testServers("a call that is aborted just after it began isn't left running", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    await client.unary({}, scripted({}).options); // a connection
    for (let n = 0; n < 12; n++) {
      const abort = new AbortController();
      const call = scripted({ hang: true }, { signal: abort.signal });
      const failed = rejects(client.unary({}, call.options), ConnectError);
      for (let i = 0; i < n; i++) {
        await null;
      }
      abort.abort();
      equal((await failed).code, Code.Canceled);
      await client.unary({}, scripted({}).options); // what was sent before it has arrived
      const seen = await call.now().catch(() => undefined);
      if (seen?.attempts) {
        await call.cancelled();
      }
    }
  }),
);

/** Requests without end, of each kind that a program may have, and whether it was told of the call's end. */
function endless() {
  const told = new Set<string>();
  const iterable = (name: string, end: () => unknown) => ({
    [Symbol.asyncIterator]: () => ({
      next: async () => ({ done: false, value: { text: name } }),
      return() {
        told.add(name);
        return end();
      },
    }),
  });
  const inputs = {
    stream: new ReadableStream({
      pull: (controller) => controller.enqueue({ text: "stream" }),
      cancel: () => void told.add("stream"),
    }),
    generators: {
      async *[Symbol.asyncIterator]() {
        try {
          for (;;) {
            yield { text: "generators" };
          }
        } finally {
          told.add("generators");
        }
      },
    },
    synchronous: iterable("synchronous", () => ({ done: true })),
    throwing: iterable("throwing", () => {
      throw new Error("return");
    }),
  };
  return { told, inputs: Object.entries(inputs) as unknown as [string, AsyncIterable<{ text: string }>][] };
}

for (const early of [true, false]) {
  test(`inputs of each kind end with ${early ? "an early answer" : "the deadline"}`, () =>
    probed({ baseUrl: env.servers.culvert }, async ({ client }) => {
      const { told, inputs } = endless();
      for (const [name, input] of inputs) {
        const call = scripted({ read: "none", hang: !early }, early ? {} : { timeoutMs: 300 });
        const ended = client.clientStream(input, call.options);
        if (early) {
          equal((await ended).received, 0n);
        } else {
          equal((await rejects(ended, ConnectError)).code, Code.DeadlineExceeded, name);
        }
        while (!told.has(name)) {
          await new Promise((resolve) => setTimeout(resolve)); // a stream is told in its own time
        }
      }
    }));
}

test("close ends calls with inputs of each kind", async () => {
  const { inputs } = endless();
  for (const [, input] of inputs) {
    await probed({ baseUrl: env.servers.culvert }, async ({ client, transport }) => {
      const call = scripted({ read: "none", hang: true });
      const ended = [
        rejects(client.clientStream(input, call.options), ConnectError),
        rejects(client.unary({}, scripted({ hang: true }).options), ConnectError),
      ];
      await call.began();
      transport.close();
      for (const e of await Promise.all(ended)) {
        equal(e.code, Code.Canceled);
      }
    });
  }
});

test("a request that isn't iterable is an error of the call", () =>
  probed({ baseUrl: env.servers.culvert }, async ({ transport }) => {
    await rejects(transport.stream(Probe.method.bidi, undefined, undefined, undefined, 5 as never), ConnectError);
  }));

test("an interceptor that throws at once fails its call alone", async () => {
  const throwing: Interceptor = () => () => {
    throw new ConnectError("no", Code.Aborted);
  };
  await probed({ baseUrl: env.servers.culvert, interceptors: [throwing] }, async ({ client }) => {
    equal((await rejects(client.unary({}), ConnectError)).code, Code.Aborted);
    await new Promise((resolve) => setTimeout(resolve)); // an unhandled rejection would be told now
  });
});

test("a server stream that goes to the fallback after a refusal has its request there", async () => {
  const got: unknown[] = [];
  const fallback = {
    async stream(...[, , , , input]: Parameters<Transport["stream"]>) {
      got.push(...(await all(input)));
      return {};
    },
  } as unknown as Transport;
  const refused: Stream = {
    head: Promise.reject(new H2Error("refused", 7, false, "no")),
    write: async () => {},
    read: async () => undefined,
    trailers: () => [],
    reset() {},
  };
  let tries = 0;
  const connections = {
    take: async (open: (c: Connection) => Stream) => (tries++ ? undefined : open({ open: () => refused } as unknown as Connection)),
    block() {},
  } as unknown as Connections;
  const message = { $typeName: Probe.method.serverStream.input.typeName, sequence: 0n, text: "once", payload: new Uint8Array() };
  await runCall(
    connections,
    { fallback },
    new URL("http://a/"),
    {
      stream: true,
      method: Probe.method.serverStream,
      message: (async function* () {
        yield message;
      })(),
      signal: new AbortController().signal,
      contextValues: createContextValues(),
    } as unknown as AnyRequest,
    new Headers(),
    () => {},
    0,
    new AbortController().signal,
  );
  deepEqual(got, [message]);
  equal(tries, 2);
});

test("a restart of the server doesn't turn WebSockets off", async () => {
  const { baseUrl, close } = await box();
  const fallback = createGrpcWebTransport({ baseUrl: env.servers.culvert });
  await probed({ baseUrl, fallback }, async ({ client, transport }) => {
    await client.unary({}, scripted({}).options);
    const running = scripted({ hang: true });
    const ended = rejects(client.unary({}, running.options), ConnectError);
    await running.began();
    await close(1012, "restart");
    await ended;
    await client.unary({}, scripted({}).options); // by the fallback: the next attempt is seconds away
    equal(transport.state.status, "reconnecting");
    ok(transport.state.retryAt);
  });
});

test("a base URL may be that of a WebSocket, and its query and fragment aren't used", async () => {
  for (const baseUrl of [env.servers.culvert.replace("http", "ws"), `${env.servers.culvert}?a=1#b`]) {
    await probed({ baseUrl }, ({ client }) => client.unary({}, scripted({}).options));
  }
});

test("a signal that an interceptor puts in place cancels, and keeps nothing of calls that have ended", async () => {
  const controller = new AbortController();
  const replace: Interceptor = (next) => (request) => next({ ...request, signal: controller.signal });
  await probed({ baseUrl: env.servers.culvert, interceptors: [replace] }, async ({ client }) => {
    for (let i = 0; i < 5; i++) {
      await client.unary({}, scripted({}).options);
      await all(client.serverStream({}, scripted({ replies: 2 }).options));
    }
    const { process } = globalThis as unknown as { process?: { getBuiltinModule(name: string): EventsModule } };
    if (process) {
      equal(process.getBuiltinModule("node:events").getEventListeners(controller.signal, "abort").length, 0);
    }
    const call = scripted({ hang: true });
    const ended = rejects(client.unary({}, call.options), ConnectError);
    await call.began();
    controller.abort();
    equal((await ended).code, Code.Canceled);
    ok((await call.cancelled()).cause);
  });
});

interface EventsModule {
  getEventListeners(target: EventTarget, name: string): unknown[];
}

test("many small requests are sent, though few of them are kept", () =>
  probed({ baseUrl: env.servers.culvert }, async ({ client }) => {
    async function* empty() {
      for (let i = 0; i < 5000; i++) {
        yield {};
      }
    }
    equal((await client.clientStream(empty(), scripted({}).options)).received, 5000n);
  }));

test("a call that ends while it waits isn't sent, though an interceptor has put another signal in place", async () => {
  const { baseUrl } = await box({ hold: true });
  const replace: Interceptor = (next) => (request) => next({ ...request, signal: new AbortController().signal });
  await probed({ baseUrl, interceptors: [replace] }, async ({ client, transport }) => {
    const stop = new AbortController();
    const ended = rejects(client.unary({}, { signal: stop.signal }), ConnectError);
    await new Promise<void>((resolve) => transport.subscribe(({ waiting }) => waiting && resolve()));
    stop.abort();
    equal((await ended).code, Code.Canceled);
    equal(transport.state.waiting, 0);
  });
});

test("an input is told of the call's end once", async () => {
  await probed({ baseUrl: env.servers.culvert }, async ({ client }) => {
    for (const how of ["whole", "abort", "aborted before"]) {
      let told = 0;
      let left = 2;
      const input = {
        [Symbol.asyncIterator]: () => ({
          next: async () => (how === "whole" && !left-- ? { done: true, value: undefined } : { done: false, value: { text: "a" } }),
          return: async () => {
            told++;
            return { done: true, value: undefined };
          },
        }),
      } as AsyncIterable<{ text: string }>;
      const stop = new AbortController();
      if (how === "aborted before") {
        stop.abort();
      }
      const call = scripted({ echo: true }, { signal: stop.signal });
      try {
        for await (const _ of client.bidi(input, call.options)) {
          if (how === "abort") {
            stop.abort();
          }
        }
        equal(how, "whole");
      } catch (e) {
        equal(ConnectError.from(e).code, Code.Canceled, how);
      }
      equal(told, 1, how);
    }
  });
});
