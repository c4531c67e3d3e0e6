// A gRPC server of Node without reflection: @grpc/grpc-js with the service Probe, which sends each text back.
// It prints its address.
//
//   node server-grpc-js.js

import { fileURLToPath } from "node:url";
import { loadPackageDefinition, Metadata, Server, ServerCredentials, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const file = fileURLToPath(new URL("../e2epb/probe.proto", import.meta.url));
const { Probe } = loadPackageDefinition(loadSync(file, { longs: Number, defaults: true })).culvert.e2e.v1;
const server = new Server();
server.addService(Probe.service, {
  Unary(call, answer) {
    if (call.request.text === "no") {
      const trailer = new Metadata();
      trailer.set("x-end", "there");
      answer({ code: status.NOT_FOUND, details: "no café", metadata: trailer });
      return;
    }
    answer(null, { text: call.request.text });
  },
  ServerStream(call) {
    for (let sequence = 0; sequence < 3; sequence++) {
      call.write({ sequence, text: call.request.text });
    }
    call.end();
  },
  ClientStream(call, answer) {
    let received = 0;
    call.on("data", () => received++);
    call.on("end", () => answer(null, { received }));
  },
  Bidi(call) {
    call.on("data", (request) => call.write({ text: request.text }));
    call.on("end", () => call.end());
  },
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) {
    throw error;
  }
  console.log(`listening 127.0.0.1:${port}`);
});
