// Loads one client, in a page or in Node: bundled by bundle.js for speed.js. All clients encode and decode the same
// message of 1 KiB with protobuf-es, so that they differ by what carries it.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { createCulvertTransport } from "@culvert/web";
import improbable from "@improbable-eng/grpc-web";
import { createChannel, createClient as createNiceClient, WebsocketTransport } from "nice-grpc-web";

const { grpc } = improbable;
const message = create(BytesValueSchema, { value: new Uint8Array(1024 - 3) }); // a tag and a length of two bytes come first
const encode = (m) => toBinary(BytesValueSchema, m);
const decode = (bytes) => fromBinary(BytesValueSchema, bytes);

// The methods of the backend (../bench/backend.go), by the names that they have here.
const serviceName = "bench.Bench";
const methods = {
  unary: { name: "Echo", kind: "unary" },
  serverStream: { name: "Source", kind: "server_streaming" },
  twoWay: { name: "Echo", kind: "bidi_streaming" },
};
const requestStream = ({ kind }) => kind === "bidi_streaming";
const responseStream = ({ kind }) => kind !== "unary";
const forEach = (describe) => Object.fromEntries(Object.entries(methods).map(([local, method]) => [local, describe(method, local)]));

/** As protoc-gen-es describes the service. */
const esService = { kind: "service", typeName: serviceName };
esService.method = forEach(({ name, kind }, localName) => ({
  kind: "rpc",
  name,
  localName,
  methodKind: kind,
  parent: esService,
  input: BytesValueSchema,
  output: BytesValueSchema,
}));
esService.methods = Object.values(esService.method);

/** As nice-grpc-web describes it. */
const niceService = forEach((method) => ({
  path: `/${serviceName}/${method.name}`,
  requestStream: requestStream(method),
  responseStream: responseStream(method),
  requestSerialize: encode,
  responseDeserialize: decode,
  options: {},
}));

/** What improbable's client asks of a generated class. */
class Message {
  constructor(message) {
    this.message = message;
  }
  static deserializeBinary(bytes) {
    return new Message(decode(bytes));
  }
  serializeBinary() {
    return encode(this.message);
  }
  toObject() {
    return this.message;
  }
}

/** As ts-protoc-gen describes the service. */
const improbableMethods = forEach((method) => ({
  methodName: method.name,
  service: { serviceName },
  requestStream: requestStream(method),
  responseStream: responseStream(method),
  requestType: Message,
  responseType: Message,
}));

/** Makes clients for a base URL, by their names in ../bench/script.go. */
const clients = {
  "@culvert/web"(baseUrl) {
    const transport = createCulvertTransport({ baseUrl });
    return iterating(createClient(esService, transport), () => transport.close());
  },
  "connect-web": (baseUrl) => iterating(createClient(esService, createGrpcWebTransport({ baseUrl, useBinaryFormat: true }))),
  "nice-grpc-web": (baseUrl) => iterating(createNiceClient(niceService, createChannel(baseUrl, WebsocketTransport()))),
  improbable: callingBack,
};

/** A client with async iterables. */
function iterating(client, close = () => {}) {
  return {
    close,
    unary: () => client.unary(message),
    serverStream(onReply) {
      const abort = new AbortController();
      const read = async () => {
        for await (const _ of client.serverStream(message, { signal: abort.signal })) {
          onReply();
        }
      };
      const ended = read().catch((e) => {
        if (!abort.signal.aborted) {
          throw e;
        }
      });
      return { ended, stop: () => abort.abort() };
    },
    twoWay(onReply) {
      let unsent = 0;
      let finished = false;
      let wake = () => {};
      async function* requests() {
        while (unsent > 0 || !finished) {
          if (unsent > 0) {
            unsent--;
            yield message;
          } else {
            await new Promise((resolve) => {
              wake = resolve;
            });
          }
        }
      }
      const read = async () => {
        for await (const _ of client.twoWay(requests())) {
          onReply();
        }
      };
      return {
        ended: read(),
        send() {
          unsent++;
          wake();
        },
        finish() {
          finished = true;
          wake();
        },
      };
    },
  };
}

/** improbable's client, which calls back. */
function callingBack(host) {
  const open = (method, onReply) => {
    const call = grpc.client(method, { host, transport: grpc.WebsocketTransport() });
    let stop;
    const ended = new Promise((resolve, reject) => {
      stop = () => {
        call.close(); // no onEnd follows
        resolve();
      };
      call.onMessage(onReply);
      call.onEnd((code, text) => (code === grpc.Code.OK ? resolve() : reject(new Error(`${grpc.Code[code]}: ${text}`))));
    });
    call.start();
    return { ended, stop, send: () => call.send(new Message(message)), finish: () => call.finishSend() };
  };
  const send = (call) => {
    call.send();
    call.finish();
    return call;
  };
  return {
    close() {},
    unary: () => send(open(improbableMethods.unary, () => {})).ended,
    serverStream: (onReply) => send(open(improbableMethods.serverStream, onReply)),
    twoWay: (onReply) => open(improbableMethods.twoWay, onReply),
  };
}

/** Runs one stream, with inFlight messages that aren't answered yet. */
async function twoWay(client, ms, inFlight) {
  const until = performance.now() + ms;
  let count = 0;
  let unanswered = inFlight;
  const call = client.twoWay(() => {
    count++;
    if (performance.now() < until) {
      call.send();
    } else if (--unanswered === 0) {
      call.finish();
    }
  });
  for (let i = 0; i < inFlight; i++) {
    call.send();
  }
  await call.ended;
  return { count };
}

/** Opens n two-way calls at the same time. Resolves to whether each one had a reply, while all others were open. */
async function openAll(client, n) {
  const calls = Array.from({ length: n }, () => {
    let replied;
    const reply = new Promise((resolve) => {
      replied = resolve;
    });
    const call = client.twoWay(() => replied(true));
    const end = call.ended.then(
      () => false,
      () => false,
    );
    call.send();
    return { call, end, runs: Promise.race([reply, end]) };
  });
  const runs = await Promise.all(calls.map((c) => c.runs));
  for (const [i, { call }] of calls.entries()) {
    if (runs[i]) {
      call.finish();
    }
  }
  await Promise.all(calls.map((c) => c.end));
  return runs;
}

/** The WebSockets since watchSockets, which only one load calls: keeping them costs time. */
let sockets;
function watchSockets() {
  if (!sockets) {
    sockets = [];
    globalThis.WebSocket = class extends WebSocket {
      constructor(...args) {
        super(...args);
        sockets.push(this);
      }
    };
  }
}

const median = (figures) => figures.sort((a, b) => a - b)[figures.length >> 1];

/** The loads, by their names in ../bench/script.go. Each gets the client, its time in ms, and a function that makes another client. */
const loads = {
  "two-way": (client, ms) => twoWay(client, ms, 256),
  "ping-pong": (client, ms) => twoWay(client, ms, 1),
  async unary(client, ms) {
    const until = performance.now() + ms;
    let count = 0;
    const callInTurn = async () => {
      do {
        await client.unary();
        count++;
      } while (performance.now() < until);
    };
    await Promise.all(Array.from({ length: 8 }, callInTurn));
    return { count };
  },
  async "server stream"(client, ms) {
    const until = performance.now() + ms;
    let count = 0;
    const call = client.serverStream(() => {
      count++;
      if (performance.now() >= until) {
        call.stop();
      }
    });
    await call.ended;
    return { count };
  },
  async streams(_, __, connect) {
    watchSockets(); // also in the warm-up, whose connections the next transport takes over
    const client = connect();
    const runs = await openAll(client, 500);
    const open = sockets.filter(({ readyState }) => readyState === WebSocket.OPEN).length;
    client.close();
    return { streams: runs.filter((r) => r).length, sockets: open };
  },
  async "first message"(_, __, connect) {
    const times = [];
    for (let i = 0; i < 20; i++) {
      const client = connect();
      const began = performance.now();
      const call = client.twoWay(() => {
        times.push(performance.now() - began);
        call.finish();
      });
      call.send();
      await call.ended;
      client.close();
    }
    return { millis: median(times) };
  },
};

const made = {};

globalThis.runLoad = (client, load, address, ms) => {
  const connect = () => clients[client](address);
  made[client] ??= connect();
  return loads[load](made[client], ms, connect);
};
