import type { Pipe } from "./h2/index.js";

/** A constructor of WebSockets: the platform's, or that of the package ws. */
export type WebSocketConstructor = new (url: string, protocols: string[]) => WebSocket;

/** The code of an end that no other attempt can change: the page may not open this WebSocket. */
export const forbidden = -1;

// ondrain is due below this (h2/pipe.ts).
const full = 65536;

/** A WebSocket as a pipe. */
export interface SocketPipe extends Pipe {
  /** Closes it, for this cause or that this end did. */
  close(cause?: string): void;
}

/**
 * Opens a WebSocket that carries HTTP/2 (subprotocol h2ts).
 *
 * @param onopen is called when bytes can be written; it sets the pipe's handlers.
 * @param onend is called once, before the pipe's own onend, with the close code,
 *   0 if there is none, or {@link forbidden}.
 */
export function openPipe(
  url: string,
  protocols: string[],
  Socket: WebSocketConstructor,
  onend: (cause: string, code: number) => void,
  onopen: (pipe: SocketPipe) => void,
): SocketPipe {
  let socket: WebSocket;
  let ended = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const end = (cause = "closed by this end", code = 0) => {
    if (!ended) {
      ended = true;
      timer = clearTimeout(timer) as undefined; // drain may follow
      socket?.close();
      onend(cause, code);
      pipe.onend?.(cause);
    }
  };
  // A WebSocket doesn't tell when its buffer drains.
  const watch = () => {
    timer ||= pipe.pending() < full ? undefined : setTimeout(drain, 4);
  };
  const drain = () => {
    if (timer) {
      timer = clearTimeout(timer) as undefined;
      watch();
      timer || pipe.ondrain();
    }
  };
  const pipe = {
    write(bytes: Uint8Array) {
      // A browser complains if the peer is closing.
      if (socket.readyState === 1) {
        socket.send(bytes as Uint8Array<ArrayBuffer>);
        watch();
        return true;
      }
      return;
    },
    pending: () => socket.bufferedAmount,
    close: end,
  } as SocketPipe; // onopen sets the handlers
  const forbid = (why: unknown) => end(`this page can't open ${url}: ${why}`, forbidden);

  try {
    socket = new Socket(url, ["h2ts", ...protocols]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => (socket.protocol === "h2ts" ? onopen(pipe) : end(`${url} doesn't speak h2ts`));
    socket.onmessage = ({ data }) => {
      if (!ended) {
        typeof data === "string" ? end("the server sent text") : pipe.onbytes(new Uint8Array(data));
        drain(); // the peer may have read, too
      }
    };
    socket.onclose = ({ code, reason }) => end(`WebSocket closed with ${code}${reason && `: ${reason}`}`, code);
    // Chromium sends no close event if the page's policy forbids the URL, and Node 22 none if there is no WebSocket.
    socket.onerror = (e) =>
      setTimeout(() => (socket.readyState > 2 ? forbid(policy) : end(`WebSocket failed: ${(e as ErrorEvent).message}`)), 500);
  } catch (e) {
    // Firefox throws for the policy. All browsers throw for ws: in a page over https.
    forbid(Socket ? `${e} (${policy}, mixed content?)` : "there is no WebSocket here: set the option webSocket");
  }
  return pipe;
}

const policy = "connect-src of its Content-Security-Policy";
