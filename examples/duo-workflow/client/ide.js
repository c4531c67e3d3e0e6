// The part of an IDE that talks to the service. Its tool reads the files of workspace/.
//
//   node ide.js ADDRESS json|protobuf|grpc-websockets|h2ts

import { readFile } from "node:fs/promises";
import { resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { converse } from "./conversation.js";
import { h2ts } from "./h2ts.js";
import { transports } from "./transports.js";

globalThis.WebSocket ??= WebSocket; // Node has its own from version 22 on

const [address, protocol] = process.argv.slice(2);
const workspace = fileURLToPath(new URL("workspace", import.meta.url));
const tunnel = protocol === "h2ts" ? await h2ts(address) : undefined;
let answer = "";

await converse({
  connect: tunnel?.connect ?? (() => transports[protocol](address)),
  goal: "Why does hello.py fail?",
  drops: [4, 8], // among the tokens, and before the answer to the tool call
  tools: { read_file: readWorkspace },
  note: (text) => console.log(`${protocol}: ${text}`),
  show(event) {
    answer += event.token?.text ?? "";
    if (event.toolCall !== undefined) {
      console.log(`${protocol}: tool call ${event.toolCall.tool}(${event.toolCall.argument})`);
    }
    if (event.done !== undefined) {
      console.log(`${protocol}: ${answer.replaceAll("\n", " ")}`);
    }
  },
});
tunnel?.close();

/** Reads a file. The service is a stranger: it may read nothing else. */
async function readWorkspace(name) {
  const path = resolve(workspace, name);
  if (!path.startsWith(workspace + sep)) {
    return `${name} is outside the workspace`;
  }
  return readFile(path, "utf8").catch((error) => `${name}: ${error.code}`);
}
