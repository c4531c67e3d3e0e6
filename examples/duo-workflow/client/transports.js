// The ways that a page can take, and Node too. Each opens a connection, as converse wants it.

import { fromBinary, fromJson, toBinary, toJson } from "@bufbuild/protobuf";
import improbable from "@improbable-eng/grpc-web";
import { ClientEventSchema, ServerEventSchema } from "./gen/duo_pb.js";
import { Queue } from "./queue.js";

export const encode = (event) => toBinary(ClientEventSchema, fromJson(ClientEventSchema, event));
export const decode = (bytes) => toJson(ServerEventSchema, fromBinary(ServerEventSchema, bytes));

/** By the names that the page and the IDE show. The address is culvert's. */
export const transports = {
  // Text messages. This needs none of the packages.
  json: (address) => overWebSocket(`ws://${address}/duo/json`, JSON.stringify, JSON.parse),

  // Binary messages.
  protobuf: (address) => overWebSocket(`ws://${address}/duo/protobuf`, encode, (data) => decode(new Uint8Array(data))),

  // gRPC over a WebSocket, with a published client.
  "grpc-websockets": (address) => {
    const events = new Queue();
    const { grpc } = improbable;
    const call = grpc.client(converseMethod, { host: `http://${address}`, transport: grpc.WebsocketTransport() });
    call.onMessage(({ event }) => events.push(event));
    call.onEnd((code, message) => (code === grpc.Code.OK ? events.end() : events.fail(new Error(`${grpc.Code[code]} ${message}`))));
    call.start();
    return { send: (event) => call.send({ serializeBinary: () => encode(event) }), events, drop: () => call.close() };
  },
};

// What that client wants to know of Converse.
const converseMethod = {
  service: { serviceName: "duo.v1.Workflow" },
  methodName: "Converse",
  requestStream: true,
  responseStream: true,
  requestType: Object,
  responseType: { deserializeBinary: (bytes) => ({ event: decode(bytes), toObject: () => ({}) }) },
};

function overWebSocket(url, write, read) {
  const events = new Queue();
  const ws = new WebSocket(url);
  ws.binaryType = "arraybuffer";
  const opened = new Promise((resolve) => {
    ws.onopen = resolve;
  });
  ws.onmessage = ({ data }) => events.push(read(data));
  ws.onclose = ({ code, reason }) => (code === 1000 ? events.end() : events.fail(new Error(`closed with ${code} ${reason}`)));
  return {
    send: (event) => void opened.then(() => ws.send(write(event))),
    events,
    drop: () => ws.close(4000), // a code that isn't 1000 or 1001: culvert cancels the call
  };
}
