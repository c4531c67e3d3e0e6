// A small HTTP/2 client (RFC 9113) over a byte pipe. It knows nothing of what
// carries the bytes or of what a stream means.
export { connect } from "./connection.ts";
export { H2Error } from "./error.ts";
export type { Pipe } from "./pipe.ts";
export type { Connection, Header, Stream } from "./types.ts";
