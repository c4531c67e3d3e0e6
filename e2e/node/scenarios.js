// Makes the calls of bridge/bridgetest's scenarios with @culvert/web, in Node or in a
// page, as it is told through a WebSocket: ../../bridge/bridgetest/client_program.go
// says how.

import { BytesValueSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { createCulvertTransport } from "@culvert/web";

const done = 0x2b; // "+"
const failed = 0x2d; // "-"
const over = 0x2e; // "."
const nothing = new Uint8Array();
const json = (value) => new TextEncoder().encode(JSON.stringify(value));
const text = (bytes) => new TextDecoder().decode(bytes);

/** Obeys until the WebSocket to url ends. webSocket is for calls; undefined: the platform's. */
export function obey(url, WebSocket, webSocket) {
  const clients = new Map();
  const calls = new Map();
  const orders = {
    n: (id, argument) => clients.set(id, createCulvertTransport({ baseUrl: text(argument), webSocket })),
    d: (id) => {
      clients.get(id).close();
      clients.delete(id);
    },
    o: (id, argument) => {
      const call = JSON.parse(text(argument));
      calls.set(id, open(clients.get(call.client), call));
    },
    s: (id, message) => calls.get(id).send(message),
    c: (id) => calls.get(id).send(undefined),
    h: async (id) => json(await calls.get(id).header()),
    r: async (id) => {
      const { value, end } = await calls.get(id).receive();
      return end ? { kind: over, body: json(end) } : value;
    },
    x: (id) => calls.get(id).cancel(),
  };
  const socket = new WebSocket(url);
  socket.binaryType = "arraybuffer";
  socket.onmessage = async ({ data }) => {
    const view = new DataView(data);
    let kind = done;
    let body = nothing;
    try {
      const result = await orders[String.fromCharCode(view.getUint8(4))](view.getUint32(5), new Uint8Array(data, 9));
      kind = result?.kind ?? done;
      body = result instanceof Uint8Array ? result : (result?.body ?? nothing);
    } catch (e) {
      kind = failed;
      body = new TextEncoder().encode(String(e?.stack ?? e));
    }
    const answer = new Uint8Array(5 + body.length);
    answer.set(new Uint8Array(data, 0, 4));
    answer[4] = kind;
    answer.set(body, 5);
    socket.send(answer);
  };
  return new Promise((resolve) => {
    socket.onclose = resolve;
  });
}

/** Begins a call. */
function open(transport, { method, metadata, millis }) {
  const slash = method.lastIndexOf("/");
  const descriptor = {
    kind: "rpc",
    methodKind: "bidi_streaming",
    name: method.slice(slash + 1),
    parent: { typeName: method.slice(1, slash) },
    input: BytesValueSchema,
    output: BytesValueSchema,
  };
  const abort = new AbortController();
  const requests = queue();
  let header = [];
  let end; // of the call
  const ends = (e) => {
    requests.close();
    const error = e && ConnectError.from(e);
    end ??= {
      code: error?.code ?? 0,
      message: error?.rawMessage ?? "",
      trailer: error ? without(error.metadata, header) : [...trailer],
      details: error?.details.map(({ type, value }) => ({ type, value: base64(value) })) ?? [],
    };
    return { end };
  };
  let trailer = [];
  const response = transport.stream(descriptor, abort.signal, millis || undefined, metadata, requests.messages(), undefined).then((r) => {
    header = [...r.header];
    trailer = r.trailer;
    return r.message[Symbol.asyncIterator]();
  });
  response.catch(ends);
  return {
    send: (message) => requests.put(message && { value: message }),
    header: () =>
      response.then(
        () => header,
        () => [],
      ),
    async receive() {
      if (end) {
        return { end };
      }
      try {
        const { done, value } = await (await response).next();
        return done ? ends() : { value: value.value };
      } catch (e) {
        return ends(e);
      }
    },
    cancel() {
      abort.abort();
      requests.close();
    },
  };
}

/** The request, as an iterable whose end is undefined. put resolves when the transport has taken the message and wants the next. */
function queue() {
  let wake = () => {};
  let closed = false;
  const waiting = [];
  return {
    put(value) {
      return new Promise((resolve, reject) => {
        waiting.push({ value, resolve, reject });
        if (closed) {
          this.close();
        }
        wake();
      });
    },
    close() {
      closed = true;
      for (const { reject } of waiting.splice(0)) {
        reject(new Error("the call has ended"));
      }
      wake();
    },
    async *messages() {
      for (;;) {
        while (waiting.length === 0) {
          if (closed) {
            return;
          }
          await new Promise((resolve) => {
            wake = resolve;
          });
        }
        const { value, resolve } = waiting[0];
        if (value === undefined) {
          waiting.shift();
          resolve();
          return;
        }
        yield value;
        if (waiting[0]?.resolve === resolve) {
          waiting.shift();
          resolve();
        }
      }
    },
  };
}

/** The fields of an error's metadata that the header hasn't had, since it has both. */
function without(metadata, header) {
  const left = new Map(metadata);
  if (header.length === 0) {
    left.delete("content-type"); // of HTTP, in an answer that is only trailers
  }
  for (const [name, value] of header) {
    const all = left.get(name) ?? "";
    if (all === value) {
      left.delete(name);
    } else if (all.endsWith(`, ${value}`)) {
      left.set(name, all.slice(0, -value.length - 2));
    }
  }
  return [...left];
}

function base64(bytes) {
  return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""));
}
