// @improbable-eng/grpc-web, by its function grpc.client.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import improbable from "@improbable-eng/grpc-web";
import { Probe, ReplySchema, RequestSchema } from "./gen/probe_pb.js";
import { base64 } from "./run.js";

export const { grpc } = improbable;

// What the client asks of a generated class.
class Message {
  constructor(schema, message) {
    this.schema = schema;
    this.message = message;
  }
  serializeBinary() {
    return toBinary(this.schema, this.message);
  }
  toObject() {
    return this.message;
  }
}

/** The descriptor of a method, as protoc-gen-ts of ts-protoc-gen makes it. */
export function methodDescriptor(method) {
  return {
    methodName: method,
    service: { serviceName: Probe.typeName },
    requestStream: method === "ClientStream" || method === "Bidi",
    responseStream: method === "ServerStream" || method === "Bidi",
    requestType: Message,
    responseType: { deserializeBinary: (b) => new Message(ReplySchema, fromBinary(ReplySchema, b)) },
  };
}

/** The client on one of its transports. */
export function improbableClient(transport) {
  return async (call) => {
    const client = grpc.client(methodDescriptor(call.method), { host: call.address, transport });
    const metadata = new grpc.Metadata();
    for (const [name, value] of call.metadata) {
      metadata.append(name, typeof value === "string" ? value : base64(value));
    }
    if (call.timeoutMS) {
      metadata.set("grpc-timeout", `${call.timeoutMS}m`); // the client has no option for it
    }
    const ended = new Promise((resolve) => {
      call.signal.addEventListener("abort", () => {
        client.close(); // onEnd isn't called then
        resolve({ code: grpc.Code.Canceled, message: "" });
      });
      client.onHeaders((h) => call.onHeader(pairs(h)));
      client.onMessage((reply) => call.onReply(reply.message));
      client.onEnd((code, message, trailers) => resolve({ code, message, trailer: pairs(trailers) }));
    });
    client.start(metadata);
    const sent = (async () => {
      for await (const r of call.requests) {
        client.send(new Message(RequestSchema, create(RequestSchema, { ...r, sequence: BigInt(r.sequence) })));
      }
      client.finishSend();
    })();
    // A call may end before all is sent, and then the client refuses to send.
    return Promise.race([ended, sent.then(() => ended)]);
  };
}

function pairs(metadata) {
  const out = [];
  metadata.forEach((name, values) => {
    out.push(...values.map((v) => [name, v]));
  });
  return out;
}
