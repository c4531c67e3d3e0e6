import { type Connection, connect, type Stream } from "./h2/index.js";
import { Code, fault } from "./peers.js";
import { forbidden, openPipe, type SocketPipe, type WebSocketConstructor } from "./pipe.js";
import type { Renewer, RenewerParts, Token } from "./session.js";

/** What a user interface can tell of the connection to a server. */
export interface ConnectionState {
  /**
   * - idle: no call needs a connection
   * - connecting: the first attempt is under way
   * - connected: the server's HTTP/2 SETTINGS have come
   * - reconnecting: the last attempt failed, or the connection was lost; retryAt is the time of the next attempt
   * - blocked: WebSockets don't work here: the page may not open one, or only the fallback works
   * - offline: the browser has no network
   */
  readonly status: "idle" | "connecting" | "connected" | "reconnecting" | "blocked" | "offline";
  /** How many calls wait: for a connection or, while connected, because the server takes no more at a time. */
  readonly waiting: number;
  /** In milliseconds, like Date.now(). */
  readonly retryAt?: number | undefined;
  /** Why the last attempt failed or the last connection was lost. */
  readonly cause?: string | undefined;
  /** Why the token can't be renewed. Running streams end when it expires. */
  readonly tokenCause?: string | undefined;
}

/** The state before the first call. */
export const unused: ConnectionState = { status: "idle", waiting: 0 };

/** Makes the error of a call that this package ends. sent is "no" if the backend certainly hasn't seen it, else "maybe". */
export const ended = (why: string, sent: string, code: number = Code.Unavailable) =>
  fault(code, `${why}; the backend ${sent === "no" ? "hasn't" : "may have"} seen this call`, { "culvert-sent": sent });

/** A connection that takes streams. */
export interface Entry {
  h2: Connection;
  pipe: SocketPipe;
  /** When it was last seen with a stream. */
  used: number;
  /** Closes it after its last stream. */
  drop: () => void;
}

/** A call that waits. It is given a connection, or told that an attempt has failed, and why. */
type Waiter = (connection?: Connection, why?: string) => void;

/** The connections to one URL. */
export type Connections = ReturnType<typeof createConnections>;

/**
 * Returns the connections to one URL, which are opened as calls need them.
 *
 * @param protocols returns the subprotocols to offer after h2ts.
 * @param idleMs is how long a connection without calls stays open, in milliseconds.
 */
export function createConnections(
  url: string,
  Socket: WebSocketConstructor,
  protocols: (() => string[] | Promise<string[]>) | undefined,
  idleMs: number,
) {
  const waiting = new Set<Waiter>();
  const listeners = new Set<(state: ConnectionState) => void>();
  let entries: Entry[] = [];
  let attempt: (() => void) | undefined; // gives up the attempt that is under way
  let timer: ReturnType<typeof setTimeout> | undefined; // begins the next attempt
  let sweeper: ReturnType<typeof setInterval> | undefined;
  let retryAt = 0;
  let failures = 0;
  let blocked = false;
  let worked = false; // on this network
  let cause: string | undefined;
  let tokenCause: string | undefined;
  let renewer: Promise<Renewer> | undefined;
  let state: ConnectionState = unused;

  const update = () => {
    const next: ConnectionState = {
      status: entries.length
        ? "connected"
        : globalThis.navigator?.onLine === false
          ? "offline"
          : blocked
            ? "blocked"
            : timer || (attempt && cause)
              ? "reconnecting"
              : attempt
                ? "connecting"
                : "idle",
      waiting: waiting.size,
      retryAt: timer && cause ? retryAt : undefined,
      cause,
      tokenCause: entries[0] && tokenCause,
    };
    if (JSON.stringify(next) !== JSON.stringify(state)) {
      state = next;
      for (const listener of listeners) {
        // Only the newest state of several in one task, and none to a listener that has unsubscribed meanwhile.
        queueMicrotask(() => next === state && listeners.has(listener) && listener(next));
      }
    }
  };

  const stopTimer = () => {
    timer = clearTimeout(timer) as undefined;
  };
  const forget = () => {
    stopTimer();
    blocked = worked = false;
    failures = retryAt = 0;
  };

  /** The first connection that takes one more call. Each keeps room to renew the token of its streams. */
  const pick = () => {
    const entry = entries.find(({ h2 }) => h2.room() > (renewer && h2.live() ? 1 : 0));
    if (entry) {
      entry.used = Date.now();
      return entry.h2;
    }
    return;
  };
  /** Says why tokens can't be renewed. */
  const tell = (why?: string) => {
    tokenCause = why;
    update();
  };

  /** Gives waiting calls the streams that there are. If calls still wait, opens one more connection, after a pause. */
  const serve = (pause = 100) => {
    for (const waiter of waiting) {
      const connection = pick();
      if (!connection) {
        break;
      }
      waiter(connection);
    }
    // If the server allows no streams on a connection, it allows none on another one.
    if (waiting.size && !attempt && !timer && entries.length < 10 && entries.every((entry) => entry.h2.live())) {
      const ms = Math.max(retryAt - Date.now(), entries.length && pause);
      if (ms > 0) {
        timer = setTimeout(() => {
          stopTimer();
          serve(0);
        }, ms);
      } else {
        void dial();
      }
    }
    update();
  };

  const dial = async () => {
    const settled = Date.now() + 1e4; // a connection that lives longer is no failed attempt
    let pipe: SocketPipe | undefined;
    let entry: Entry | undefined;
    let left = false;

    const leave = () => {
      left = true;
      clearTimeout(late);
      entries = entries.filter((e) => e !== entry);
      attempt = entry && attempt;
    };
    /** The connection takes no more streams, or the attempt has failed. */
    const lose = (why: string, code = 0) => {
      if (!left) {
        leave();
        stopTimer();
        cause = entries.length ? cause : why;
        blocked ||= code === forbidden && !entries.length;
        failures = entry && Date.now() > settled ? 0 : failures + 1;
        // 1012 is "service restart", 1013 is "try again later": come back after 5 to 30 s.
        retryAt =
          code === forbidden
            ? 0
            : Date.now() + (code >> 1 === 506 ? 5e3 + Math.random() * 25e3 : Math.random() * Math.min(1e4, 250 * 2 ** failures));
        if (!entry && !entries.length) {
          for (const waiter of waiting) {
            waiter(undefined, why);
          }
        }
        serve();
      }
    };
    const late = setTimeout(() => (pipe?.close ?? lose)("no HTTP/2 SETTINGS in 10 s"), 1e4);

    attempt = () => {
      leave();
      pipe?.close();
    };
    listen("add");
    update();
    try {
      const names = protocols ? await protocols() : [];
      if (!left) {
        pipe = openPipe(url, names, Socket, lose, (pipe) => {
          const h2 = connect(
            pipe,
            (why) => lose(why.message),
            () => queueMicrotask(serve),
          );
          h2.ready.then(
            () => {
              if (!left) {
                clearTimeout(late);
                attempt = cause = undefined;
                blocked = false;
                worked = true;
                const drop = () => {
                  leave();
                  h2.close();
                };
                entry = { h2, pipe, used: Date.now(), drop };
                entries.push(entry);
                sweeper ??= setInterval(sweep, Math.min(idleMs / 4, 6e4));
                serve(0);
              }
            },
            () => {}, // lose was called
          );
        });
      }
    } catch (e) {
      lose(`protocols: ${e}`);
    }
  };

  /** Closes connections that no call needs any more. */
  const sweep = () => {
    for (const entry of entries) {
      if (entry.h2.live()) {
        entry.used = Date.now();
      } else if (Date.now() - entry.used >= idleMs) {
        entry.drop();
      }
    }
    if (!entries.length) {
      sweeper = clearInterval(sweeper) as undefined;
    }
    update();
  };

  /**
   * The network has come back, perhaps another one on which the old connections are dead. Or the page has come back from
   * the back/forward cache, and the browser has cut its WebSockets.
   */
  const wake = (event: Event) => {
    const { type, persisted } = event as PageTransitionEvent;
    if (type === "online" || persisted) {
      const again = entries.length || cause;
      attempt?.();
      for (const entry of entries) {
        if (persisted) {
          entry.pipe.close("the page was in the back/forward cache");
        } else {
          entry.drop();
        }
      }
      forget();
      if (again) {
        void dial();
      }
      serve();
    }
    update();
  };
  const listen = (what: "add" | "remove") => {
    for (const type of ["online", "offline", "pageshow"]) {
      globalThis[`${what}EventListener`]?.(type, wake);
    }
  };

  return {
    state: () => state,

    /** Calls listener now, and after each change. */
    subscribe(listener: (state: ConnectionState) => void): () => void {
      listeners.add(listener);
      listener(state);
      return () => listeners.delete(listener);
    },

    /**
     * Resolves to the stream that open makes of a connection with room for it,
     * or to undefined, if that is for the fallback to do. fallback is false for a
     * call that a fallback can't do.
     */
    async take(open: (connection: Connection) => Stream, signal: AbortSignal, fallback: boolean | undefined): Promise<Stream | undefined> {
      signal.throwIfAborted();
      if (fallback && blocked) {
        return;
      }
      const free = waiting.size ? undefined : pick();
      if (free) {
        return open(free);
      }
      const since = Date.now();
      return new Promise((resolve, reject) => {
        const waiter: Waiter = (connection, why) => {
          if (connection || fallback || blocked || Date.now() - since > 5e3) {
            done();
            if (connection || fallback) {
              // What open throws rejects.
              resolve((async () => connection && open(connection))());
            } else {
              reject(ended(fallback === undefined ? `${why}` : `${why}; client streams and two-way calls need a WebSocket`, "no"));
            }
          }
        };
        const done = () => {
          waiting.delete(waiter);
          clearTimeout(patience);
          signal.removeEventListener("abort", done);
          update();
          if (signal.aborted) {
            reject(signal.reason);
          }
        };
        const patience = fallback ? setTimeout(() => entries.length || waiter(), 1e3) : undefined;
        signal.addEventListener("abort", done);
        waiting.add(waiter);
        serve();
      });
    },

    /** Has the token of a stream that has begun renewed (session.ts). */
    renew(token: string | Token, ...parts: RenewerParts) {
      renewer ??= import("./session.js").then((session) => session.renewer(() => entries, tell, ...parts));
      renewer.then(
        (note) => note(token),
        (e) => {
          renewer = undefined; // the next stream tries again
          tell(`token: ${e}`);
        },
      );
    },

    /** Notes that the fallback has worked. Calls that it can do then take it at once, unless a WebSocket has worked on this network. */
    block() {
      blocked = !entries.length && !worked;
      update();
    },

    /** Closes everything, unless calls need it. */
    close() {
      if (!waiting.size && !entries.some((e) => e.h2.live())) {
        attempt?.();
        for (const entry of entries) {
          entry.drop();
        }
        forget();
        listen("remove");
        cause = undefined;
        sweep();
      }
    },
  };
}
