// HTTP/2 inside a WebSocket, for programs. grpc-js can't dial one, so it connects to a port of
// this program, which forwards the bytes.

import { createServer } from "node:net";
import { pipeline } from "node:stream";
import { Client, credentials } from "@grpc/grpc-js";
import { createWebSocketStream, WebSocket } from "ws";
import { Queue } from "./queue.js";
import { decode, encode } from "./transports.js";

/** Returns connect(), as converse wants it, and close(). */
export async function h2ts(address) {
  let tunnel;
  const port = createServer((socket) => {
    tunnel = new WebSocket(`ws://${address}/`, "h2ts");
    pipeline(socket, createWebSocketStream(tunnel), socket, () => {});
  });
  await new Promise((listening) => port.listen(0, "127.0.0.1", listening));
  const client = new Client(`127.0.0.1:${port.address().port}`, credentials.createInsecure(), { "grpc.enable_http_proxy": 0 });
  return {
    connect() {
      const events = new Queue();
      const call = client.makeBidiStreamRequest("/duo.v1.Workflow/Converse", (event) => Buffer.from(encode(event)), decode);
      call.on("data", (event) => events.push(event));
      call.on("end", () => events.end());
      call.on("error", (error) => events.fail(error));
      return { send: (event) => call.write(event), events, drop: () => tunnel.terminate() };
    },
    close() {
      client.close();
      port.close();
    },
  };
}
