// grpc-web, by its class GrpcWebClientBase, which generated clients call.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import grpcWeb from "grpc-web";
import { Probe, ReplySchema, RequestSchema } from "./gen/probe_pb.js";
import { base64, only } from "./run.js";

/** The descriptor of a method, as protoc-gen-grpc-web makes it. */
export function methodDescriptor(method) {
  return new grpcWeb.MethodDescriptor(
    `/${Probe.typeName}/${method}`,
    method === "ServerStream" ? grpcWeb.MethodType.SERVER_STREAMING : grpcWeb.MethodType.UNARY,
    Object,
    Object,
    (request) => toBinary(RequestSchema, create(RequestSchema, request)),
    (bytes) => fromBinary(ReplySchema, bytes),
  );
}

/** The client with a format: "binary" or "text". */
export function grpcWebClient(format) {
  const client = new grpcWeb.GrpcWebClientBase({ format, maxReceiveMessageSize: 64 << 20 });
  return async (call) => {
    if (call.kind === "client" || call.kind === "bidi") {
      throw new Error("the client has no method for a stream of requests");
    }
    const metadata = {};
    for (const [name, value] of call.metadata) {
      const text = typeof value === "string" ? value : base64(value);
      metadata[name] = name in metadata ? `${metadata[name]}, ${text}` : text;
    }
    if (call.timeoutMS) {
      metadata.deadline = String(Date.now() + call.timeoutMS); // the client's own name for it
    }
    const one = await only(call.requests);
    const request = { ...one, sequence: BigInt(one.sequence) };
    const url = `${call.address}/${Probe.typeName}/${call.method}`;
    return new Promise((resolve) => {
      let trailer = [];
      let failure;
      const end = (e) => resolve({ code: e.code, message: e.message, trailer: Object.entries(e.metadata ?? {}) });
      const done = () => (failure ? end(failure) : resolve({ code: 0, message: "", trailer }));
      const descriptor = methodDescriptor(call.method);
      const stream =
        call.kind === "unary"
          ? client.rpcCall(url, request, metadata, descriptor, (e, reply) => {
              if (e) {
                failure ??= e;
                setTimeout(done); // of a call that isn't answered there is no end
              } else {
                call.onReply(reply);
              }
            })
          : client.serverStreaming(url, request, metadata, descriptor);
      stream.on("metadata", (m) => call.onHeader(Object.entries(m)));
      stream.on("status", (s) => {
        trailer = Object.entries(s.metadata ?? {});
      });
      if (call.kind === "server") {
        stream.on("data", (reply) => call.onReply(reply));
        stream.on("error", (e) => {
          failure ??= e;
        });
      }
      stream.on("error", () => setTimeout(done));
      stream.on("end", () => setTimeout(done));
      call.signal.addEventListener("abort", () => {
        stream.cancel(); // the stream says no more then
        resolve({ code: grpcWeb.StatusCode.CANCELLED, message: "" });
      });
    });
  };
}
