// The service as ts-protoc-gen gives it. See ../generate.sh.
import * as pb from "./demo_pb.js";

export class Demo {}
Demo.serviceName = "culvert.demo.v1.Demo";

const method = (methodName, requestStream, responseStream, requestType, responseType) => ({
  methodName,
  service: Demo,
  requestStream,
  responseStream,
  requestType,
  responseType,
});
Demo.Echo = method("Echo", false, false, pb.EchoRequest, pb.EchoResponse);
Demo.Countdown = method("Countdown", false, true, pb.CountdownRequest, pb.CountdownResponse);
Demo.Sum = method("Sum", true, false, pb.SumRequest, pb.SumResponse);
