// The page: the same calls as client.go, on one transport.

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createWritableIterable } from "@connectrpc/connect/protocol";
import { createCulvertTransport } from "@culvert/web";
import { Accounts, Basket, Catalog, Support } from "./gen/gateway_pb.js";

const byId = (id) => document.getElementById(id);
const transport = createCulvertTransport({ baseUrl: "/", token: () => byId("token").value });
const [accounts, basket, catalog, support] = [Accounts, Basket, Catalog, Support].map((service) => createClient(service, transport));

function say(who, what) {
  const item = document.createElement("li");
  item.textContent = `${who}: ${what}`;
  byId("log").append(item);
}

/** Returns messages to send, one after the other. */
async function* each(messages) {
  yield* messages;
}

/** Calls all four services, while a chat stays open. */
async function shop() {
  const said = createWritableIterable();
  const answers = support.chat(said)[Symbol.asyncIterator]();
  const chat = async (text) => {
    said.write({ text }).catch(() => {}); // the answers tell why the stream ended
    const { value, done } = await answers.next();
    say("support", done ? "has gone" : value.text);
  };
  try {
    await chat("hello");
    say("accounts", `I am ${(await accounts.whoAmI({})).name}`);
    const found = [];
    for await (const product of catalog.search({ text: byId("search").value })) {
      say("catalog", `${product.name}, ${product.cents} cents`);
      found.push(product);
    }
    const { products, cents } = await basket.fill(each(found));
    say("basket", `${products} products, ${cents} cents`);
    await chat("goodbye");
  } finally {
    said.close();
  }
}

byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("shop").disabled = true;
  byId("log").replaceChildren();
  await shop().catch((cause) => {
    const { code, rawMessage } = ConnectError.from(cause);
    say(Code[code], rawMessage);
  });
  byId("shop").disabled = false;
});
