import type { ConnectError } from "@connectrpc/connect";
import { Code } from "./peers.js";

/** A token with the time when it expires. */
export interface Token {
  token: string;
  /** In milliseconds, like Date.now(). If unset, a JWT says it itself, and another token is never renewed. */
  expiresAt?: number | undefined;
}

/** What the source of tokens has at the moment. */
export type TokenSource = () => string | Token | undefined | Promise<string | Token | undefined>;

/** The authorization of a token, and when that expires, in milliseconds like Date.now(); Infinity if that isn't known. */
export interface Credential {
  bearer: string;
  until: number;
}

/** Returns a function that asks a source. A token that comes again keeps its time. */
export function credentials(source: TokenSource = () => undefined): () => Promise<Credential | undefined> {
  let last: Credential | undefined;
  return async () => {
    const got = await source();
    const { token, expiresAt } = typeof got === "object" ? got : { token: got, expiresAt: 0 };
    const bearer = `Bearer ${token}`;
    if (bearer !== last?.bearer || expiresAt) {
      last = { bearer, until: expiresAt || expiry(bearer) };
    }
    return token ? last : undefined;
  };
}

/** When a JWT expires, by what it says. The server checks whether that is true. */
function expiry(token: string): number {
  try {
    const { exp, iat } = JSON.parse(token.length < 65536 ? atob(`${token.split(".")[1]}`.replace(/-/g, "+").replace(/_/g, "/")) : "");
    const now = Date.now() / 1e3;
    // If a token that was just handed out isn't valid now, this program's clock is wrong.
    return typeof exp === "number" ? 1e3 * (iat < exp && (now < iat || now > exp) ? now + exp - iat : exp) : Infinity;
  } catch {
    return Infinity;
  }
}

/**
 * Returns what gives the server new tokens, so that streams outlive the one that they began with.
 *
 * @param busy returns the connections with streams.
 * @param refresh gives one of their servers an authorization, and resolves to the error, if the server doesn't take it.
 * @param onchange is called when cause() may have changed.
 */
export function createRenewer<C>(
  credential: () => Promise<Credential | undefined>,
  busy: () => C[],
  refresh: (connection: C, bearer: string) => Promise<ConnectError | undefined>,
  onchange: () => void,
) {
  let until = Infinity; // when the first of the streams' tokens expires
  let timer: ReturnType<typeof setTimeout> | undefined;
  let refused: string | undefined; // the authorization that the server doesn't take
  let deaf: C | undefined; // a connection whose server takes none
  let cause: string | undefined;

  /** Sets the timer: some minutes before the token expires, but not with all other pages at once. */
  const plan = (lead = Math.min((until - Date.now()) / 3, 18e4) * (0.75 + Math.random() / 2)) => {
    clearTimeout(timer);
    if (!busy().length) {
      until = Infinity;
      cause = undefined;
    }
    timer = until < Infinity ? setTimeout(renew, Math.min(until - lead - Date.now(), 2e9)) : undefined;
  };

  /** Never rejects. */
  const renew = async () => {
    const before = until;
    const left = before - Date.now();
    // A source may have nothing newer yet, and is asked more and more often then.
    let lead: number | undefined = left - (left > 0 ? Math.max(1e3, left / 4) : 3e4);
    try {
      const next = busy().length
        ? await Promise.race([
            credential(),
            new Promise<never>((_, reject) => {
              AbortSignal.timeout(1e4).onabort = () => reject("no answer in 10 s");
            }),
          ])
        : undefined;
      if (next && next.until > before && next.bearer !== refused) {
        until = Infinity; // streams that begin meanwhile lower it
        const connections = busy();
        const errors = await Promise.all(connections.map((connection) => refresh(connection, next.bearer)));
        const at = errors.findIndex((e) => e);
        const code: number | undefined = errors[at]?.code;
        deaf = code === Code.Unimplemented ? connections[at] : undefined;
        until = Math.min(until, deaf ? Infinity : code ? before : next.until);
        cause = deaf ? undefined : errors[at]?.message;
        refused = code === Code.PermissionDenied || code === Code.Unauthenticated ? next.bearer : undefined;
        lead = cause ? lead : undefined;
      }
    } catch (e) {
      cause = `token: ${e}`;
    }
    plan(lead);
    onchange();
  };

  return {
    /** Notes a stream that has begun on a connection, and when its token expires. */
    began(connection: C, expires: number) {
      if (expires < until && connection !== deaf) {
        until = expires;
        plan();
      }
    },
    /** Stops if there are no streams. */
    settle: () => plan(),
    /** Whether there is a token to renew. */
    needed: () => until < Infinity,
    /** Why the last attempt failed. */
    cause: () => cause,
  };
}
