import { H2Error } from "./error.ts";
import type { Pipe } from "./pipe.ts";
import type { Connection } from "./types.ts";

/**
 * Starts HTTP/2 on a pipe, as the client.
 *
 * @param ongone is called once, when the server takes no more streams (GOAWAY)
 *   or the connection ended: open streams may go on after a GOAWAY.
 * @param onroom is called when room() may have grown.
 */
export function connect(pipe: Pipe, ongone: (why: H2Error) => void, onroom: () => void): Connection {
  throw new H2Error("not built yet", -1, "no", true);
}
