// HTTP/2 inside a WebSocket, with a PING of its own, and frames that a server must ignore.

import { octets } from "../h2/bytes.js";
import { splitter } from "../h2/frames.js";
import { type Connection, connect, type H2Error, type Header } from "../h2/index.js";
import { forbidden, openPipe, type SocketPipe, type WebSocketConstructor } from "../pipe.js";
import { answerOf, type Call, Ended, type Found, framed, late, messagesIn, patience, printable, within } from "./call.js";
import { serviceName } from "./service.js";

/** What a tunnel's open rejects with if the page may not open the WebSocket. */
export const blocked = new Error("the page's policy forbids the WebSocket");

const ping = 6;
/** A frame of a type that nobody knows, which a peer must ignore (RFC 9113, section 5.5). */
const ignored = 0xfa;

/** HTTP/2 inside a WebSocket. */
export interface Tunnel {
  /** Resolves to whether the server's SETTINGS and the answer to a PING come. */
  prove(signal: AbortSignal): Promise<Found>;
  /** Waits for the answer to a PING. */
  ping(signal: AbortSignal): Promise<void>;
  /** Sends what nobody answers. */
  say(): void;
  /** Opens a call. */
  call(method: string): Call;
  /** Rejects when the connection ends. */
  ended: Promise<never>;
  close(): void;
}

/** Opens a tunnel to a base URL, whose path ends with a slash. */
export function openTunnel(base: URL, headers: Headers, Socket: WebSocketConstructor, signal: AbortSignal): Promise<Tunnel> {
  return new Promise((resolve, reject) => {
    let fail: (e: Error) => void = reject;
    const url = `${base.href.replace(/^http/, "ws")}${serviceName}/Echo`;
    const closed = (cause: string, code: number) => {
      fail(code === forbidden ? blocked : new Ended({ result: "cut", evidence: cause }));
    };
    const pipe = openPipe(url, [], Socket, closed, (pipe) => {
      signal.removeEventListener("abort", stop);
      const ended = new Promise<never>((_, no) => {
        fail = no;
      });
      ended.catch(() => {});
      resolve(tunnel(pipe, base, headers, ended, (e) => fail(e)));
    });
    const stop = () => pipe.close("no answer in time");
    signal.addEventListener("abort", stop);
  });
}

function tunnel(pipe: SocketPipe, base: URL, headers: Headers, ended: Promise<never>, fail: (e: Error) => void): Tunnel {
  let pong = () => {};
  const gone = ({ message }: H2Error) =>
    fail(new Ended({ result: message.startsWith("GOAWAY") ? "can't tell" : "cut", evidence: printable(message) }));
  const connection = connect(pipe, gone, () => {});
  const take = pipe.onbytes;
  const look = splitter(
    (type, flags) => type === ping && flags === 1 && pong(),
    () => {
      throw new Error("too large"); // the connection ends
    },
  );
  pipe.onbytes = (bytes) => {
    take(bytes);
    try {
      look(bytes);
    } catch {}
  };
  const frame = (type: number) => pipe.write(Uint8Array.from([0, 0, 8, type, 0, ...octets(0), ...octets(0), ...octets(0)]));

  const self: Tunnel = {
    async prove(signal) {
      const began = performance.now();
      const silent = (evidence: string, cause?: string) => (e: unknown) => {
        throw e === late ? new Ended({ result: "silent", evidence, ...(cause && { cause }) }) : e;
      };
      await within(signal, patience, () => Promise.race([connection.ready, ended])).catch(silent("the peer's SETTINGS don't come"));
      const settings = Math.round(performance.now() - began);
      await self.ping(signal).catch(silent("the peer's SETTINGS came, and no answer to a PING", "no-pong"));
      const answered = Math.round(performance.now() - began) - settings;
      return { result: "works", evidence: `SETTINGS after ${settings} ms, PING answered after ${answered} ms` };
    },
    async ping(signal) {
      const answer = new Promise<void>((resolve) => {
        pong = resolve;
      });
      frame(ping);
      await within(signal, patience, () => Promise.race([answer, ended]));
    },
    say: () => frame(ignored),
    call: (method) => openCall(connection, base, headers, method),
    ended,
    close: () => pipe.close(),
  };
  return self;
}

function openCall(connection: Connection, base: URL, headers: Headers, method: string): Call {
  const stream = connection.open([
    [":method", "POST"],
    [":scheme", base.protocol.slice(0, -1)],
    [":path", `${base.pathname}${serviceName}/${method}`],
    [":authority", base.host],
    ["content-type", "application/grpc+proto"],
    ["te", "trailers"],
    ...[...headers].filter(([name]) => name !== "content-type"),
  ]);
  const fieldsOf = (list: Header[]) => {
    const fields = new Headers();
    for (const [name, value] of list) {
      name[0] === ":" || fields.append(name, value);
    }
    return fields;
  };
  let head: Headers | undefined;
  const read = async () => {
    if (!head) {
      const list = await stream.head;
      head = fieldsOf(list);
      if (list[0]?.[1] !== "200" || !head.get("content-type")?.startsWith("application/grpc")) {
        const answer = answerOf(Number(list[0]?.[1]), head, "");
        throw new Ended({ result: "refused", evidence: `answered ${answer.status}`, answer });
      }
    }
    return stream.read();
  };
  const messages = messagesIn(read, () => (head?.has("grpc-status") ? head : fieldsOf(stream.trailers())));
  return {
    send: (message, last) => stream.write(message ? framed(message) : new Uint8Array(), last),
    next: async () => (await messages.next()).value,
  };
}
