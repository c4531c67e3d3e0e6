// Loaded with the first stream in a WebSocket that has a token of the application's source. At run time it imports nothing
// of this package, so that bundlers make one small file of it and leave the other ones as they are.

import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import type { AnyRequest, call } from "./call.js";
import type { Entry } from "./connections.js";
import type { Connection, Stream } from "./h2/index.js";
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

/** Returns a function that reads tokens. One that comes again keeps its time. */
export function credentials(): (got: string | Token | undefined) => Credential | undefined {
  let last: Credential | undefined;
  return (got) => {
    const { token, expiresAt } = typeof got === "object" ? got : { token: got, expiresAt: 0 };
    const bearer = `Bearer ${token}`;
    if (token && (bearer !== last?.bearer || expiresAt)) {
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

/** Notes that a stream has begun, with this token. */
export type Renewer = (token: string | Token) => void;

/** What a renewer needs of the transport. */
export type RenewerParts = [source: TokenSource, run: typeof call, url: URL];

/**
 * Gives the server new tokens, so that streams outlive the one that they began with.
 *
 * @param entries returns the connections.
 * @param tell is told why the last attempt failed.
 */
export function renewer(entries: () => Entry[], tell: (cause?: string) => void, ...[source, run, url]: RenewerParts): Renewer {
  const credential = credentials();
  let until = Infinity; // when the first of the streams' tokens expires
  let timer: ReturnType<typeof setTimeout> | undefined;
  let refused: string | undefined; // the authorization that the server doesn't take
  let deaf: Entry | undefined; // a connection whose server takes none
  let cause: string | undefined;

  const busy = () => entries().filter(({ h2 }) => h2.live());

  /** Calls culvert.v1.Session/Refresh inside a connection. */
  const refresh = ({ h2 }: Entry, authorization: string): Promise<ConnectError | undefined> => {
    const signal = AbortSignal.timeout(1e4);
    const method = { parent: { typeName: "culvert.v1.Session" }, name: "Refresh", input: EmptySchema, output: EmptySchema };
    const request = { method, message: create(EmptySchema), signal } as unknown as AnyRequest;
    const link = { take: async (open: (connection: Connection) => Stream) => open(h2), block() {} };
    return run(link, {}, url, request, new Headers({ authorization }), () => {}, performance.now() + 1e4, signal).then(
      () => undefined,
      (e) => e,
    );
  };

  /** Sets the timer: some minutes before the token expires, but not with all other pages at once. */
  const plan = (lead = Math.min((until - Date.now()) / 3, 18e4) * (0.75 + Math.random() / 2)) => {
    clearTimeout(timer);
    if (!busy().length) {
      until = Infinity;
      cause = undefined;
    }
    if (until < Infinity) {
      timer = setTimeout(renew, Math.min(until - lead - Date.now(), 2e9));
      // Connections keep Node running, and this needn't.
      (timer as { unref?: () => void }).unref?.();
    }
    tell(cause);
  };

  /** Never rejects. */
  const renew = async () => {
    const before = until;
    const left = before - Date.now();
    // A source may have nothing newer yet: it is asked more and more often until the token expires, and less and less often
    // afterwards, since the server's clock may differ, or it may close no streams.
    let lead: number | undefined = left - Math.min(Math.max(1e3, Math.abs(left) / 4), 3e4);
    try {
      const next = busy().length
        ? credential(
            await Promise.race([
              source(),
              new Promise<never>((_, reject) => {
                AbortSignal.timeout(1e4).onabort = () => reject("no answer in 10 s");
              }),
            ]),
          )
        : undefined;
      if (next && next.until > before && next.bearer !== refused) {
        until = Infinity; // streams that begin meanwhile lower it
        const connections = busy();
        const errors = await Promise.all(connections.map((entry) => refresh(entry, next.bearer)));
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
  };

  const note: Renewer = (token) => {
    const { until: expires = Infinity } = credential(token) ?? {};
    if (expires < until && !(deaf && entries().includes(deaf))) {
      until = expires;
      plan();
    }
  };
  plan();
  return note;
}
