// @grpc/grpc-js, with the methods that @grpc/proto-loader reads from the file.

import { fileURLToPath } from "node:url";
import { compressionAlgorithms, credentials, loadPackageDefinition, Metadata } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { only } from "./run.js";

const file = fileURLToPath(new URL("../e2epb/probe.proto", import.meta.url));
const { Probe } = loadPackageDefinition(loadSync(file, { longs: Number, defaults: true })).culvert.e2e.v1;
const clients = new Map(); // connections are kept, as in a program

/** The client. */
export async function grpcJS(call) {
  const target = call.address.replace("http://", "");
  const key = `${target} ${call.compress}`;
  if (!clients.has(key)) {
    clients.set(
      key,
      new Probe(target, credentials.createInsecure(), {
        "grpc.max_receive_message_length": -1,
        "grpc.enable_retries": 0,
        "grpc.default_compression_algorithm": call.compress ? compressionAlgorithms.gzip : compressionAlgorithms.identity,
      }),
    );
  }
  const client = clients.get(key);
  const metadata = new Metadata();
  for (const [name, value] of call.metadata) {
    metadata.add(name, typeof value === "string" ? value : Buffer.from(value));
  }
  const options = call.timeoutMS ? { deadline: Date.now() + call.timeoutMS } : {};
  let reply;
  let running;
  const gotReply = (_, r) => {
    reply = r; // the status says of an error
  };
  switch (call.kind) {
    case "unary": {
      const { requestSerialize, responseDeserialize } = Probe.service.Unary;
      const path = `/culvert.e2e.v1.Probe/${call.method}`;
      const request = await only(call.requests);
      running = client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, options, gotReply);
      break;
    }
    case "server":
      running = client.ServerStream(await only(call.requests), metadata, options);
      break;
    case "client":
      running = client.ClientStream(metadata, options, gotReply);
      break;
    default:
      running = client.Bidi(metadata, options);
  }
  const status = new Promise((resolve) => running.on("status", resolve));
  running.on("metadata", (m) => call.onHeader(pairs(m)));
  running.on("error", () => {}); // the status says it
  call.signal.addEventListener("abort", () => running.cancel());
  if (call.kind === "client" || call.kind === "bidi") {
    send(running, call.requests).catch((e) => {
      console.error(e);
      running.cancel();
    });
  }
  if (call.kind === "server" || call.kind === "bidi") {
    try {
      for await (const r of running) {
        await call.onReply(r);
      }
    } catch {
      // likewise
    }
  }
  const { code, details, metadata: trailer } = await status;
  if (reply !== undefined) {
    await call.onReply(reply);
  }
  return { code, message: details, trailer: pairs(trailer) };
}

async function send(running, requests) {
  let wake = () => {};
  running.on("drain", () => wake());
  running.on("close", () => wake());
  for await (const r of requests) {
    if (!running.write(r)) {
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
  }
  running.end();
}

function pairs(metadata) {
  return Object.keys(metadata.getMap()).flatMap((name) => metadata.get(name).map((v) => [name, v]));
}
