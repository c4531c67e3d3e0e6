// Who waits for whom: back-pressure in both directions.

import { ConnectError } from "@connectrpc/connect";
import { all, probed, scripted } from "./client.js";
import { env, equal, ok, rejects, test, testServers } from "./harness.js";

const MiB = 1 << 20;

testServers("a page that doesn't read stops its stream alone", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    const call = scripted({ replies: 500, reply_bytes: 50_000 });
    const stream = client.serverStream({}, call.options)[Symbol.asyncIterator]();
    equal((await stream.next()).value?.sequence, 0n);
    // Others go on, and give it time to send.
    for (let i = 0; i < 100; i++) {
      equal((await client.unary({}, scripted({ reply_bytes: 50_000 }).options)).payload.length, 50_000);
    }
    // What is on its way: windows of culvert, and buffers of the sockets.
    const { sent_bytes } = await call.now();
    ok(sent_bytes < 16 * MiB, `${sent_bytes} bytes were sent`);
    for (let i = 1n; i < 500n; i++) {
      equal((await stream.next()).value?.sequence, i);
    }
    equal((await stream.next()).done, true);
  }),
);

test("a stream whose reader stops holds its window, and no more arrives", async () => {
  let arrived = 0;
  class Socket extends env.WebSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      this.addEventListener("message", (e: MessageEvent) => {
        arrived += (e.data as ArrayBuffer).byteLength;
      });
    }
  }
  await probed({ baseUrl: env.servers.plain, webSocket: Socket }, async ({ client }) => {
    const streams = Array.from({ length: 4 }, () => client.serverStream({}, scripted({ replies: 2000, reply_bytes: 50_000 }).options));
    const iterators = streams.map((s) => s[Symbol.asyncIterator]());
    const read = 50;
    for (let i = 0; i < read; i++) {
      await Promise.all(iterators.map((it) => it.next()));
    }
    for (let i = 0; i < 100; i++) {
      await client.unary({}, scripted({}).options);
    }
    ok(arrived < 4 * (read * 50_000 + 256 * 1024 + 50_000) + 100_000, `${arrived} bytes arrived`);
  });
});

test("a backend that doesn't read stops the page's requests", () =>
  probed({ baseUrl: env.servers.culvert }, async ({ client }) => {
    let made = 0;
    const stop = new AbortController();
    async function* endless() {
      for (;;) {
        made++;
        yield { payload: new Uint8Array(50_000) };
      }
    }
    const call = scripted({ read: "none", hang: true }, { signal: stop.signal });
    const ended = rejects(all(client.bidi(endless(), call.options)), ConnectError);
    await call.began();
    // Others go on, until the buffers on the way are full.
    for (let before = 0; made !== before; ) {
      before = made;
      for (let i = 0; i < 50; i++) {
        await client.unary({}, scripted({}).options);
      }
      ok(made * 50_000 < 16 * MiB, `${made} requests were made`);
    }
    stop.abort();
    await ended;
  }));

testServers("large messages cross both ways at once", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    async function* large() {
      for (let i = 0; i < 4; i++) {
        yield { payload: new Uint8Array(3 * MiB).fill(i) };
      }
    }
    let i = 0;
    for await (const { payload } of client.bidi(large(), scripted({ echo: true }).options)) {
      equal(payload.length, 3 * MiB);
      ok(payload[0] === i && payload[3 * MiB - 1] === i);
      i++;
    }
    equal(i, 4);
  }),
);

testServers("a slow reader gets everything in order", (baseUrl) =>
  probed({ baseUrl }, async ({ client }) => {
    async function* many() {
      for (let i = 0; i < 3000; i++) {
        yield { sequence: BigInt(i), text: String(i) };
      }
    }
    const call = scripted({ echo: true });
    let i = 0;
    for await (const { text } of client.bidi(many(), call.options)) {
      equal(text, String(i++));
      if (i % 100 === 0) {
        await new Promise((resolve) => setTimeout(resolve));
      }
    }
    equal(i, 3000);
    equal((await call.ended()).fault, "");
  }),
);
