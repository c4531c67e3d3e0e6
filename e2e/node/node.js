// Runs the jobs on standard input in Node; the observations go to standard output.

import improbable from "@improbable-eng/grpc-web";
import { NodeHttpTransport } from "@improbable-eng/grpc-web-node-http-transport";
import { text } from "node:stream/consumers";
import { WebSocket } from "ws";
import { run } from "./clients.js";

const { grpc } = improbable;
globalThis.WebSocket ??= WebSocket; // Node has its own from version 22 on
globalThis.self ??= globalThis; // the fetch transport looks there for fetch

const transports = {
  "improbable http": NodeHttpTransport(),
  "improbable fetch": grpc.FetchReadableStreamTransport({}),
  "improbable websocket": grpc.WebsocketTransport(),
};

const { address, jobs } = JSON.parse(await text(process.stdin));
const observations = [];
for (const job of jobs) {
  observations.push(await run(job, address, transports));
}
process.stdout.write(JSON.stringify(observations));
