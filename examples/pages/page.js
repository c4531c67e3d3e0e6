// The plain page: one bidirectional stream, and the state of its connection.

import { ConnectError, createClient } from "@connectrpc/connect";
import { createWritableIterable } from "@connectrpc/connect/protocol";
import { createCulvertTransport } from "@culvert/web";
import { Room } from "./gen/room_pb.js";

const transport = createCulvertTransport({ baseUrl: "/" });
const room = createClient(Room, transport);
const byId = (id) => document.getElementById(id);
let said = createWritableIterable(); // what the stream sends

transport.subscribe(({ status }) => {
  byId("state").textContent = status;
});

function show(text) {
  const item = document.createElement("li");
  item.textContent = text;
  byId("lines").append(item);
}

// The transport reconnects. A stream that has begun ends with its connection: only the page knows how to go on.
async function stay() {
  for (;;) {
    try {
      for await (const { name, text, members } of room.join(said)) {
        byId("members").textContent = members;
        if (text !== "") {
          show(`${name}: ${text}`);
        }
      }
    } catch (error) {
      show(`the stream ended: ${ConnectError.from(error).message}`);
    }
    said = createWritableIterable();
    await new Promise((resume) => setTimeout(resume, 1000 + 1000 * Math.random()));
  }
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = { name: byId("name").value, text: byId("text").value };
  byId("text").value = "";
  // It rejects if the stream ends before it takes the message.
  said.write(message).catch(() => show(`not sent: ${message.text}`));
});
void stay();
