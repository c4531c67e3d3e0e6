// The clients that run in a browser; Node runs most of them, too.

import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { createCulvertTransport } from "@culvert/web";
import { FetchTransport, WebsocketTransport } from "nice-grpc-web";
import { connect } from "./client-connect.js";
import { grpcWebClient } from "./client-grpc-web.js";
import { grpc, improbableClient } from "./client-improbable.js";
import { nice } from "./client-nice.js";
import { protobufTS } from "./client-protobuf-ts.js";

/** By the names that ../matrix_clients_test.go knows. */
export const clients = {
  "connect-web": connect((baseUrl) => createGrpcWebTransport({ baseUrl, useBinaryFormat: true })),
  "connect-web connect": connect((baseUrl) => createConnectTransport({ baseUrl, useBinaryFormat: true })),
  "culvert-web": connect((baseUrl, gzip) => createCulvertTransport({ baseUrl, gzip })),
  "grpc-web binary": grpcWebClient("binary"),
  "grpc-web text": grpcWebClient("text"),
  "improbable fetch": improbableClient(grpc.FetchReadableStreamTransport({})),
  "improbable xhr": improbableClient(grpc.XhrTransport({})),
  "improbable websocket": improbableClient(grpc.WebsocketTransport()),
  "nice fetch": nice(FetchTransport()),
  "nice websocket": nice(WebsocketTransport()),
  "protobuf-ts binary": protobufTS("binary"),
  "protobuf-ts text": protobufTS("text"),
};
