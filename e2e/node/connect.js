// Calls culvert by the Connect protocol, with the transports of connect-node and
// connect-web. Prints a line for each call that went well. usage: node connect.js URL

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { createConnectTransport as createWebTransport } from "@connectrpc/connect-web";
import { Probe } from "./gen/probe_pb.js";

const baseUrl = process.argv[2];
const options = { baseUrl, useBinaryFormat: true };
const transports = {
  "connect-node http1": createConnectTransport({ ...options, httpVersion: "1.1" }),
  "connect-node h2c": createConnectTransport({ ...options, httpVersion: "2" }),
  "connect-node json": createConnectTransport({ baseUrl, httpVersion: "2" }),
  "connect-web": createWebTransport(options),
  "connect-web json": createWebTransport({ baseUrl }),
};

async function* requests() {
  for (let i = 0n; i < 3n; i++) {
    yield { sequence: i };
  }
}

for (const [name, transport] of Object.entries(transports)) {
  const client = createClient(Probe, transport);
  const script = (s) => ({ headers: { "probe-script": JSON.stringify(s) }, timeoutMs: 120_000 });
  const code = async (call) => {
    try {
      await call();
      return "ok";
    } catch (e) {
      return Code[ConnectError.from(e).code];
    }
  };
  const unary = () => client.unary({ text: "hello" }, script({ echo: true }));
  console.log(name, "unary", await code(unary));
  console.log(name, "error", await code(() => client.unary({}, script({ code: 5, message: "no such thing" }))));
  let replies = 0;
  const stream = async () => {
    for await (const _ of client.serverStream({}, script({ replies: 3, code: 9 }))) {
      replies++;
    }
  };
  console.log(name, "server stream", await code(stream), replies);
  if (name.startsWith("connect-node")) {
    console.log(name, "client stream", (await client.clientStream(requests(), script({}))).received);
  }
  if (name.endsWith("h2c") || name === "connect-node json") {
    let turns = 0;
    for await (const _ of client.bidi(requests(), script({ echo: true }))) {
      turns++;
    }
    console.log(name, "bidi", turns);
  }
}
process.exit(); // the kernel closes what is open
