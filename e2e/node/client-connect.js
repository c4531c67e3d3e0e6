// @connectrpc/connect, with the transports of connect-web and connect-node.

import { ConnectError, createClient } from "@connectrpc/connect";
import { Probe } from "./gen/probe_pb.js";
import { base64, only } from "./run.js";

// The service with a method that no server has.
const service = { ...Probe, methods: [...Probe.methods, { ...Probe.method.unary, name: "Missing", localName: "missing" }] };

/** A client on a transport that newTransport makes for an address, whether to compress, and a forward proxy. */
export function connect(newTransport) {
  const clients = new Map(); // connections are kept, as in a program
  return async (call) => {
    const key = `${call.address} ${call.compress} ${call.proxy}`;
    if (!clients.has(key)) {
      clients.set(key, createClient(service, newTransport(call.address, call.compress, call.proxy)));
    }
    try {
      await make(clients.get(key), call);
      return { code: 0, message: "", trailer: call.trailer };
    } catch (e) {
      if (!(e instanceof ConnectError)) {
        throw e;
      }
      return {
        code: e.code,
        message: e.rawMessage,
        trailer: e.metadata.entries(),
        details: e.details.map((d) => ({ type: d.type, value: base64(d.value) })),
      };
    }
  };
}

async function make(client, call) {
  const options = {
    signal: call.signal,
    timeoutMs: call.timeoutMS,
    headers: call.metadata.map(([name, value]) => [name, typeof value === "string" ? value : base64(value)]),
    onHeader: (h) => call.onHeader(h.entries()),
    onTrailer: (t) => {
      call.trailer = [...t.entries()];
    },
  };
  const one = (r) => ({ ...r, sequence: BigInt(r.sequence) });
  async function* all() {
    for await (const r of call.requests) {
      yield one(r);
    }
  }
  switch (call.kind) {
    case "unary": {
      const method = call.method === "Missing" ? "missing" : "unary";
      await call.onReply(await client[method](one(await only(call.requests)), options));
      return;
    }
    case "client":
      await call.onReply(await client.clientStream(all(), options));
      return;
    case "server":
      for await (const reply of client.serverStream(one(await only(call.requests)), options)) {
        await call.onReply(reply);
      }
      return;
    default:
      for await (const reply of client.bidi(all(), options)) {
        await call.onReply(reply);
      }
  }
}
