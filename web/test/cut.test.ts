// Connections that end at any byte: a call is whole, sent again, or ends with an error that says what it knows.

import { Code, ConnectError } from "@connectrpc/connect";
import { probed, scripted, texts } from "./client.js";
import { box, deepEqual, env, equal, ok, test } from "./harness.js";

/** A WebSocket, the first of its class, of which only so many bytes come. */
function cutter(limit: number) {
  let left = limit;
  let first = true;
  return class extends env.WebSocket {
    override set onmessage(take: (e: { data: ArrayBuffer }) => void) {
      if (!first) {
        super.onmessage = take;
        return;
      }
      first = false;
      super.onmessage = ({ data }: { data: ArrayBuffer }) => {
        const part = data.slice(0, left);
        left -= part.byteLength;
        if (part.byteLength) {
          take({ data: part });
        }
        if (left === 0) {
          this.close();
        }
      };
    }
  };
}

test(
  "a stream whose connection is cut at any byte",
  async () => {
    const { baseUrl } = await box();
    const seen = new Set<string>();
    // A shorter run takes other bytes in each place.
    for (let limit = ["node", "chromium", "firefox"].indexOf(env.place); limit < 600; limit += env.long ? 1 : 5) {
      await probed({ baseUrl, webSocket: cutter(limit) }, async ({ client }) => {
        const call = scripted({ echo: true, trailer: [{ name: "x-end", value: "yes" }] });
        const replies: string[] = [];
        let trailer: string | null = null;
        let error: ConnectError | undefined;
        try {
          const options = {
            ...call.options,
            onTrailer(t: Headers) {
              trailer = t.get("x-end");
            },
          };
          for await (const { text } of client.bidi(texts("a", "bb", "ccc"), options)) {
            replies.push(text);
          }
        } catch (e) {
          error = ConnectError.from(e);
        }
        const hint = `after ${limit} bytes`;
        deepEqual(replies, ["a", "bb", "ccc"].slice(0, replies.length), hint);
        if (error) {
          equal(error.code, Code.Unavailable, hint);
          equal(error.metadata.get("culvert-sent"), "maybe", hint);
        } else {
          deepEqual([replies.length, trailer], [3, "yes"], hint);
        }
        const { attempts } = await call.now();
        ok(attempts === 1 || error, hint);
        seen.add(`${replies.length} ${error ? "cut" : "whole"}`);
      });
    }
    // Every state of a stream was cut.
    for (const state of ["0 cut", "1 cut", "2 cut", "3 cut", "3 whole"]) {
      ok(seen.has(state), `${state} in ${[...seen]}`);
    }
  },
  { patience: 300_000 },
);
