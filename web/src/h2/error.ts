/** Why a stream or a connection ended before its time. */
export class H2Error extends Error {
  constructor(
    message: string,
    /** The error code (RFC 9113, section 7), or -1 if the pipe ended and there is none. */
    readonly code: number,
    /** "no" if the server certainly didn't process the request, so it can be sent again. */
    readonly processed: "no" | "maybe",
    /** True if the whole connection ended, false if this stream alone did. */
    readonly lost: boolean,
  ) {
    super(message);
  }
}
