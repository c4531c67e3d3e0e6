// nice-grpc-web, with stubs of ts-proto.

import { ClientError, createChannel, createClient, Metadata, Status } from "nice-grpc-web";
import { ProbeDefinition } from "./gen/ts-proto/probe.js";
import { only } from "./run.js";

// The service with a method that no server has.
const service = {
  ...ProbeDefinition,
  methods: { ...ProbeDefinition.methods, missing: { ...ProbeDefinition.methods.unary, name: "Missing" } },
};

/** The client on one of its transports. */
export function nice(transport) {
  return async (call) => {
    const client = createClient(service, createChannel(call.address, transport));
    let trailer = [];
    const metadata = new Metadata();
    for (const [name, value] of call.metadata) {
      metadata.append(name, value);
    }
    if (call.timeoutMS) {
      metadata.set("grpc-timeout", `${call.timeoutMS}m`); // the client has no option for it
    }
    const options = {
      metadata,
      signal: call.signal,
      onHeader: (h) => call.onHeader(pairs(h)),
      onTrailer: (t) => {
        trailer = pairs(t);
      },
    };
    try {
      await make(client, call, options);
      return { code: 0, message: "", trailer };
    } catch (e) {
      if (e.name === "AbortError") {
        return { code: Status.CANCELLED, message: e.message, trailer };
      }
      if (!(e instanceof ClientError)) {
        throw e;
      }
      return { code: e.code, message: e.details, trailer };
    }
  };
}

async function make(client, call, options) {
  switch (call.kind) {
    case "unary": {
      const method = call.method === "Missing" ? "missing" : "unary";
      await call.onReply(await client[method](await only(call.requests), options));
      return;
    }
    case "client":
      await call.onReply(await client.clientStream(call.requests, options));
      return;
    case "server":
      for await (const reply of client.serverStream(await only(call.requests), options)) {
        await call.onReply(reply);
      }
      return;
    default:
      for await (const reply of client.bidi(call.requests, options)) {
        await call.onReply(reply);
      }
  }
}

function pairs(metadata) {
  return Array.from(metadata).flatMap(([name, values]) => values.map((v) => [name, v]));
}
