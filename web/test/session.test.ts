// Tokens of streams that outlive them: how the transport renews them inside the connection.

import { Code, ConnectError } from "@connectrpc/connect";
import type { ConnectionState } from "../src/index.js";
import { credentials } from "../src/session.js";
import { all, probed, type Reply, scripted } from "./client.js";
import { ErrorInfoSchema } from "./gen/error_details_pb.js";
import { box, deepEqual, env, equal, match, ok, rejects, seeded, test } from "./harness.js";

/** A JWT without a signature. Times are in seconds from now. */
function jwt(exp: number, iat?: number, sub = "ada") {
  const now = Date.now() / 1e3;
  const part = (value: unknown) => btoa(JSON.stringify(value)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  return `${part({ alg: "none" })}.${part({ sub, exp: now + exp, iat: iat === undefined ? iat : now + iat })}.`;
}

/** Resolves once a transport has a state. */
const until = (transport: { subscribe(f: (state: ConnectionState) => void): () => void }, is: (state: ConnectionState) => boolean) =>
  new Promise<ConnectionState>((resolve) => {
    const stop = transport.subscribe((state) => {
      if (is(state)) {
        resolve(state);
        queueMicrotask(() => stop());
      }
    });
  });

/** A stream that lasts until finish, and a source of tokens that counts how often it was asked. */
async function streaming(
  rules: { refreshes?: number[] },
  source: (asked: number) => ReturnType<NonNullable<Parameters<typeof probed>[0]["token"]>>,
  body: (p: {
    asked: () => number;
    refreshes: (count: number) => Promise<string[]>;
    state: (is: (s: ConnectionState) => boolean) => Promise<ConnectionState>;
    told: (is: (s: ConnectionState) => boolean) => Promise<ConnectionState>;
    states: ConnectionState[];
    unary: () => Promise<unknown>;
    cut: () => Promise<unknown>;
    finish: () => Promise<number>;
  }) => Promise<void>,
) {
  const { baseUrl, refreshes, cut } = await box(rules);
  let asked = 0;
  await probed({ baseUrl, token: () => source(++asked) }, async ({ client, transport }) => {
    const states: ConnectionState[] = []; // all of them: a slow machine's stream begins late
    const stop = transport.subscribe((state) => states.push(state));
    const call = scripted({ hold_all: true, replies: 3 });
    const replies = all(client.serverStream({}, call.options));
    replies.catch(() => {}); // finish tells it
    await call.began();
    await body({
      asked: () => asked,
      refreshes,
      state: (is) => until(transport, is),
      told: async (is) => states.find(is) ?? until(transport, is),
      states,
      unary: () => client.unary({}, scripted({}).options),
      cut,
      finish: async () => {
        await call.release();
        return (await replies).length;
      },
    });
    stop();
  });
}

test(
  "a stream gets new tokens before the last one expires",
  async () => {
    const tokens = [jwt(3), jwt(6), jwt(9), jwt(3600)];
    await streaming(
      { refreshes: [0] },
      (n) => tokens[n - 1],
      async ({ refreshes, finish, asked }) => {
        deepEqual(
          await refreshes(3),
          tokens.slice(1).map((t) => `Bearer ${t}`),
        );
        equal(await finish(), 3);
        equal(asked(), 4);
      },
    );
  },
  { waits: true },
);

test(
  "a source can say when a token expires that is no JWT",
  async () => {
    await streaming(
      { refreshes: [0] },
      (n) => ({ token: `t${n}`, expiresAt: Date.now() + (n < 3 ? 1500 : 1e6) }),
      async ({ refreshes, finish }) => {
        deepEqual(await refreshes(2), ["Bearer t2", "Bearer t3"]);
        equal(await finish(), 3);
      },
    );
  },
  { waits: true },
);

test(
  "a token without a time, or without a running stream, isn't renewed",
  async () => {
    await streaming(
      { refreshes: [0] },
      () => "opaque.token.here",
      async ({ finish, asked }) => {
        await new Promise((resolve) => setTimeout(resolve, 1500));
        equal(asked(), 1);
        equal(await finish(), 3);
      },
    );
    const { baseUrl, refreshes } = await box({ refreshes: [0] });
    await probed({ baseUrl, token: () => jwt(4) }, async ({ client }) => {
      await client.unary({}, scripted({}).options);
      const during = await refreshes(0); // on a busy machine the call may outlive its token
      await new Promise((resolve) => setTimeout(resolve, 5000));
      deepEqual(await refreshes(0), during);
    });
  },
  { waits: true },
);

test(
  "a refused token is told, isn't sent again, and ends no stream",
  async () => {
    let token = jwt(20);
    await streaming(
      { refreshes: [Code.PermissionDenied, 0] },
      (n) => (n === 1 ? jwt(9) : token),
      async ({ refreshes, state, told, finish, asked }) => {
        match((await told((s) => !!s.tokenCause)).tokenCause ?? "", /a rule says so/);
        const before = asked();
        while (asked() < before + 1) {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        equal((await refreshes(1)).length, 1);
        token = jwt(3600);
        equal((await refreshes(2))[1], `Bearer ${token}`);
        await state((s) => s.tokenCause === undefined);
        equal(await finish(), 3);
      },
    );
  },
  { waits: true },
);

for (const [when, life] of [
  ["before the last one expires", 3],
  ["soon after the last one expired", -1],
] as const) {
  test(
    `a server that is unavailable gets the token again ${when}`,
    async () => {
      const next = jwt(3600);
      await streaming(
        { refreshes: [Code.Unavailable, Code.Unavailable, 0] },
        (n) => (n === 1 ? jwt(life) : next),
        async ({ refreshes, state, states, finish }) => {
          deepEqual(await refreshes(3), Array(3).fill(`Bearer ${next}`));
          await state((s) => !s.tokenCause);
          ok(states.some((s) => s.tokenCause));
          equal(await finish(), 3);
        },
      );
    },
    { waits: true },
  );
}

test(
  "a server that doesn't know the method is asked once a connection, and nothing is told",
  async () => {
    let asks = 0;
    await streaming(
      {},
      (n) => {
        asks = n;
        return jwt(1.5 * n);
      },
      async ({ states, unary, finish }) => {
        while (asks < 2) {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        await unary(); // its token expires sooner than that of a stream that another server has
        await new Promise((resolve) => setTimeout(resolve, 2000));
        equal(asks, 3);
        equal(await finish(), 3);
        ok(!states.some((s) => s.tokenCause));
      },
    );
  },
  { waits: true },
);

for (const [what, source, cause] of [
  [
    "throws",
    () => {
      throw new Error("logged out");
    },
    /token: Error: logged out/,
  ],
  ["has nothing", () => undefined, undefined],
  ["has nothing newer", (first: string) => first, undefined],
] as const) {
  test(
    `a source that ${what} is asked again, and ends no stream`,
    async () => {
      const first = jwt(2);
      await streaming(
        { refreshes: [0] },
        (n) => (n === 1 ? first : n < 3 ? source(first) : jwt(3600)),
        async ({ refreshes, state, told, finish, asked }) => {
          if (cause) {
            match((await told((s) => !!s.tokenCause)).tokenCause ?? "", cause);
          }
          await refreshes(1);
          equal(asked(), 3);
          await state((s) => !s.tokenCause);
          equal(await finish(), 3);
        },
      );
    },
    { waits: true },
  );
}

test(
  "a source that hangs is asked again after 10 s",
  async () => {
    await streaming(
      { refreshes: [0] },
      (n) => (n === 1 ? jwt(15) : n === 2 ? new Promise<string>(() => {}) : jwt(3600)),
      async ({ refreshes, told, finish, asked }) => {
        equal((await told((s) => !!s.tokenCause)).tokenCause, "token: no answer in 10 s");
        await refreshes(1);
        equal(asked(), 3);
        equal(await finish(), 3);
      },
    );
  },
  { waits: true },
);

test(
  "a connection that is cut during a refresh ends its streams, and the next stream's token is renewed",
  async () => {
    const { baseUrl, refreshes, cut, wait } = await box({ refreshes: [-1, 0] });
    let asked = 0;
    await probed({ baseUrl, token: () => jwt(1.5 + asked++) }, async ({ client, transport }) => {
      const first = scripted({ hold_all: true, replies: 1 });
      const lost = all(client.serverStream({}, first.options)).catch((e) => ConnectError.from(e));
      await first.began();
      await refreshes(1);
      await cut();
      equal(((await lost) as ConnectError).code, Code.Unavailable);
      const second = scripted({ hold_all: true, replies: 2 });
      const replies = all(client.serverStream({}, second.options));
      await second.began();
      equal((await refreshes(2)).length, 2);
      equal((await wait()).opened, 2);
      await second.release();
      equal((await replies).length, 2);
      equal(transport.state.status, "connected");
    });
  },
  { waits: true },
);

test(
  "a token is renewed although streams take all places but one",
  async () => {
    const { baseUrl, refreshes, wait } = await box({ maxStreams: 3, refreshes: [0] });
    await probed({ baseUrl, token: () => jwt(3) }, async ({ client }) => {
      const calls = [1, 2, 3].map(() => scripted({ hold_all: true, replies: 1 }));
      const streams = calls.map((call) => all(client.serverStream({}, call.options)));
      await Promise.all(calls.map((call) => call.began()));
      equal((await wait()).opened, 2);
      await refreshes(2); // one in each connection
      await Promise.all(calls.map((call) => call.release()));
      deepEqual(
        (await Promise.all(streams)).map((s) => s.length),
        [1, 1, 1],
      );
    });
  },
  { waits: true },
);

test(
  "a clock that is wrong delays no renewal",
  async () => {
    for (const skew of [-86400, 86400]) {
      const tokens = [jwt(skew + 2, skew - 0.1), jwt(skew + 3600, skew - 0.1)];
      await streaming(
        { refreshes: [0] },
        (n) => tokens[n - 1],
        async ({ refreshes, finish }) => {
          deepEqual(await refreshes(1), [`Bearer ${tokens[1]}`]);
          equal(await finish(), 3);
        },
      );
    }
  },
  { waits: true },
);

test("transports with another source have a connection of their own", async () => {
  const { baseUrl, wait } = await box();
  const token = () => "a";
  await probed({ baseUrl, token }, ({ client: a }) =>
    probed({ baseUrl, token }, ({ client: b }) =>
      probed({ baseUrl, token: () => "b" }, async ({ client: c }) => {
        for (const client of [a, b, c]) {
          await client.unary({}, scripted({}).options);
        }
        equal((await wait()).opened, 2);
      }),
    ),
  );
});

test(
  "a call with an authorization of its own isn't renewed",
  async () => {
    const { baseUrl, refreshes } = await box({ refreshes: [0] });
    await probed({ baseUrl, token: () => jwt(1) }, async ({ client }) => {
      const call = scripted({ hold_all: true, replies: 1 }, { headers: { authorization: "Basic eA==" } });
      const replies = all(client.serverStream({}, call.options));
      await call.began();
      await new Promise((resolve) => setTimeout(resolve, 1500));
      deepEqual(await refreshes(0), []);
      await call.release();
      equal((await replies).length, 1);
    });
  },
  { waits: true },
);

/** A stream before the real culvert, whose messages come while tokens expire. */
async function guarded(
  lifeS: number,
  token: (asked: number) => string,
  body: (p: { replies: Promise<Reply[]>; asked: () => number }) => Promise<void>,
) {
  let asked = 0;
  await probed({ baseUrl: env.servers.guarded, token: () => token(++asked) }, async ({ client }) => {
    const replies = all(client.serverStream({}, scripted({ replies: Math.ceil(lifeS * 35), reply_every_ms: 100 }).options));
    replies.catch(() => {}); // body tells it
    await body({ replies, asked: () => asked });
  });
}

test(
  "a stream outlives three tokens, and each message comes once",
  async () => {
    await guarded(
      10, // a busy machine may take seconds for a renewal
      () => jwt(10),
      async ({ replies, asked }) => {
        deepEqual(
          (await replies).map((r) => r.sequence),
          Array.from({ length: 350 }, (_, i) => BigInt(i)),
        );
        ok(asked() > 4, `${asked()} tokens`);
      },
    );
  },
  { waits: true },
);

test(
  "the token of another caller is refused, and the stream ends with its own",
  async () => {
    await guarded(
      4,
      (n) => jwt(4, undefined, n === 1 ? "ada" : "eve"),
      async ({ replies }) => {
        const error = await rejects(replies, ConnectError);
        equal(error.code, Code.Unauthenticated);
        match(JSON.stringify(error.findDetails(ErrorInfoSchema)), /TOKEN_EXPIRED/);
      },
    );
  },
  { waits: true },
);

test("the expiry of a token is that of a JWT, or unknown", () => {
  const claims = (text: string) => `e30.${btoa(text).replace(/=/g, "")}.c2ln`;
  const untils: [string, number][] = [
    [claims('{"exp":99999999999}'), 99999999999e3],
    [claims('{"exp":99999999999,"iat":"x"}'), 99999999999e3],
    [claims('{"exp":"99999999999"}'), Infinity],
    [claims('{"exp":1e999}'), Infinity],
    [claims("[]"), Infinity],
    [claims("null"), Infinity],
    [claims("{"), Infinity],
    [`e30.${"e".repeat(65536)}.c2ln`, Infinity],
    ["e30.\u20ac.c2ln", Infinity],
    ["opaque", Infinity],
    ["..", Infinity],
  ];
  for (const [token, until] of untils) {
    equal(credentials()(token)?.until, until, token.slice(0, 80));
  }
  equal(credentials()(""), undefined);
  equal(credentials()(undefined), undefined);
  equal(credentials()({ token: claims('{"exp":5}'), expiresAt: 7 })?.until, 7);
  const text = Array.from({ length: 2000 }, (_, i) => String.fromCharCode(32 + ((i * 7919) % 95))).join("");
  const next = seeded(7);
  for (let i = 0; i < 2000; i++) {
    const at = next(1900);
    const found = credentials()(claims(text.slice(at, at + next(100))));
    ok((found?.until ?? 0) > 0);
  }
});
