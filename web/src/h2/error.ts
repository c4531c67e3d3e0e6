/** Why a stream or a connection ended before its time. */
export class H2Error extends Error {
  /** The error code (RFC 9113, section 7), or -1 if the pipe ended and there is none. */
  declare readonly code: number;
  /** "no" if the server certainly didn't process the request, so it can be sent again. */
  declare readonly sent: "no" | "maybe";
  /** True if the whole connection ended, false if this stream alone did. */
  declare readonly lost: boolean;
  constructor(message: string, code: number, lost = false, sent: "no" | "maybe" = "maybe") {
    super(message);
    this.code = code;
    this.lost = lost;
    this.sent = sent;
  }
}

/** Error codes (RFC 9113, section 7). */
// biome-ignore lint/suspicious/noConstEnum: all that use it are compiled with it, and bundlers don't inline constants of other files
export const enum Code {
  NoError = 0,
  ProtocolError = 1,
  FlowControlError = 3,
  StreamClosed = 5,
  FrameSizeError = 6,
  RefusedStream = 7,
  CompressionError = 9,
  EnhanceYourCalm = 11,
}

/** A header block that can't be decoded (RFC 7541): what follows on the connection can't be either. */
export function malformed(): never {
  throw new H2Error("malformed header block", Code.CompressionError, true);
}
