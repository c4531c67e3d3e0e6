// The clients as protoc-gen-grpc-web gives them with mode=grpcwebtext. See
// ../generate.sh.
import { GrpcWebClientBase, MethodDescriptor, MethodType } from "grpc-web";
import { CountdownRequest, CountdownResponse, EchoRequest, EchoResponse } from "./demo_pb.js";

const descriptor = (name, type, Request, Response) =>
  new MethodDescriptor(`/culvert.demo.v1.Demo/${name}`, type, Request, Response, (r) => r.serializeBinary(), Response.deserializeBinary);
const echo = descriptor("Echo", MethodType.UNARY, EchoRequest, EchoResponse);
const countdown = descriptor("Countdown", MethodType.SERVER_STREAMING, CountdownRequest, CountdownResponse);

export class DemoClient {
  constructor(hostname, _credentials, options = {}) {
    this.client = new GrpcWebClientBase({ ...options, format: "text" });
    this.hostname = hostname.replace(/\/+$/, "");
  }
  echo(request, metadata, callback) {
    return this.client.rpcCall(`${this.hostname}/culvert.demo.v1.Demo/Echo`, request, metadata ?? {}, echo, callback);
  }
  countdown(request, metadata) {
    return this.client.serverStreaming(`${this.hostname}/culvert.demo.v1.Demo/Countdown`, request, metadata ?? {}, countdown);
  }
}

export class DemoPromiseClient extends DemoClient {
  echo(request, metadata) {
    return this.client.unaryCall(`${this.hostname}/culvert.demo.v1.Demo/Echo`, request, metadata ?? {}, echo);
  }
}
