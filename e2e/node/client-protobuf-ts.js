// @protobuf-ts/grpcweb-transport, with stubs of protobuf-ts.

import { GrpcStatusCode, GrpcWebFetchTransport } from "@protobuf-ts/grpcweb-transport";
import { RpcError, ServiceType } from "@protobuf-ts/runtime-rpc";
import { ProbeClient } from "./gen/protobuf-ts/probe.client.js";
import { Probe } from "./gen/protobuf-ts/probe.js";
import { base64, only } from "./run.js";

// The service with a method that no server has.
const { methods } = new ServiceType(Probe.typeName, [{ name: "Missing", options: {}, I: Probe.methods[0].I, O: Probe.methods[0].O }]);
class Client extends ProbeClient {
  missing(input, options) {
    return this._transport.unary(methods[0], input, this._transport.mergeOptions(options));
  }
}

/** The client with a format: "binary" or "text". */
export function protobufTS(format) {
  return async (call) => {
    const client = new Client(new GrpcWebFetchTransport({ baseUrl: call.address, format }));
    const meta = {};
    for (const [name, value] of call.metadata) {
      meta[name] ??= [];
      meta[name].push(typeof value === "string" ? value : base64(value));
    }
    const options = { meta, timeout: call.timeoutMS, abort: call.signal };
    const one = (r) => ({ ...r, sequence: BigInt(r.sequence) });
    try {
      switch (call.kind) {
        case "unary": {
          const method = call.method === "Missing" ? "missing" : "unary";
          const running = client[method](one(await only(call.requests)), options);
          const { headers, response, trailers } = await running;
          call.onHeader(pairs(headers));
          await call.onReply(response);
          return { code: 0, message: "", trailer: pairs(trailers) };
        }
        case "server": {
          const running = client.serverStream(one(await only(call.requests)), options);
          running.headers.then(
            (h) => call.onHeader(pairs(h)),
            () => {},
          ); // the responses have the error
          for await (const reply of running.responses) {
            await call.onReply(reply);
          }
          return { code: 0, message: "", trailer: pairs(await running.trailers) };
        }
        case "client":
          client.clientStream(options); // throws
          break;
        default:
          client.bidi(options); // throws
      }
      throw new Error("BUG: the client streams requests after all");
    } catch (e) {
      if (!(e instanceof RpcError)) {
        throw e;
      }
      return { code: GrpcStatusCode[e.code], message: e.message, trailer: pairs(e.meta) };
    }
  };
}

function pairs(meta) {
  return Object.entries(meta).flatMap(([name, values]) => [values].flat().map((v) => [name, v]));
}
