// The clients that run in Node: the browser's, as far as Node has what they need,
// and those made for Node.

import { compressionGzip, createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { createCulvertTransport } from "@culvert/web";
import { NodeHttpTransport } from "@improbable-eng/grpc-web-node-http-transport";
import { HttpsProxyAgent } from "https-proxy-agent";
import { WebSocket } from "ws";
import { connect } from "./client-connect.js";
import { grpcJS } from "./client-grpc-js.js";
import { improbableClient } from "./client-improbable.js";
import { clients as browserClients } from "./clients-browser.js";

globalThis.WebSocket ??= WebSocket; // Node has its own from version 22 on
globalThis.self ??= globalThis; // improbable's fetch transport looks there for fetch

const proxied = connect((baseUrl, gzip, proxy) => createCulvertTransport({ baseUrl, gzip, webSocket: through(proxy) }));

/** By the names that ../matrix_clients_test.go knows. */
export const clients = {
  ...browserClients,
  "grpc-js": grpcJS,
  "connect-node grpc": connect((baseUrl, compress) => createGrpcTransport({ baseUrl, ...compression(compress) })),
  "connect-node connect http1": connect((baseUrl, compress) =>
    createConnectTransport({ baseUrl, useBinaryFormat: true, httpVersion: "1.1", ...compression(compress) }),
  ),
  "connect-node connect h2c": connect((baseUrl, compress) =>
    createConnectTransport({ baseUrl, useBinaryFormat: true, httpVersion: "2", ...compression(compress) }),
  ),
  "connect-node grpc-web http1": connect((baseUrl, compress) =>
    createGrpcWebTransport({ baseUrl, httpVersion: "1.1", ...compression(compress) }),
  ),
  "connect-node grpc-web h2c": connect((baseUrl, compress) =>
    createGrpcWebTransport({ baseUrl, httpVersion: "2", ...compression(compress) }),
  ),
  "far culvert-web": proxied,
  "squid culvert-web": proxied,
  "improbable http": improbableClient(NodeHttpTransport()),
};

/** A WebSocket through a forward proxy, to a server whose certificate nobody has signed. */
function through(proxy) {
  const agent = new HttpsProxyAgent(proxy);
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { agent, rejectUnauthorized: false });
    }
  };
}

function compression(compress) {
  return compress ? { sendCompression: compressionGzip } : {};
}
