// A small HTTP/2 client (RFC 9113) over a byte pipe. It knows nothing of what
// carries the bytes or of what a stream means.
export { connect } from "./connection.js";
export { H2Error } from "./error.js";
export type { Pipe } from "./pipe.js";
export type { Connection, Header, Stream } from "./types.js";
