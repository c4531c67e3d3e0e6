import type { H2Error } from "./error.js";

/** A header field. The name is in lower case; both are strings of bytes (U+0000 to U+00FF). */
export type Header = readonly [name: string, value: string];

/** One HTTP/2 connection, as its client sees it. */
export interface Connection {
  /**
   * Resolves when the server's SETTINGS have come, which is when streams can
   * be opened; nothing but the preface and SETTINGS is sent before. Rejects
   * with an {@link H2Error} if the connection ends first.
   */
  readonly ready: Promise<void>;
  /**
   * Opens a stream; `end` says that no body follows.
   * Throws an {@link H2Error} when {@link room} is 0, which includes the time
   * before {@link ready} and after {@link close} or `ongone`, and a TypeError if a
   * header has a character that HTTP forbids. Nothing is sent then.
   */
  open(headers: readonly Header[], end?: boolean): Stream;
  /** How many more streams can be opened now: the server's SETTINGS_MAX_CONCURRENT_STREAMS, or 2^31-1, less those that are open. */
  room(): number;
  /** How many streams are open. */
  live(): number;
  /**
   * Takes no new streams, says so to the server (GOAWAY), and closes the pipe
   * after the last stream. May be called twice; `ongone` isn't called for it.
   */
  close(): void;
}

/** One request and its response. */
export interface Stream {
  /** The answer's header block, `:status` first. Informational ones (1xx) are skipped. */
  readonly head: Promise<Header[]>;
  /**
   * Sends bytes, and END_STREAM after them if `end`. Resolves when flow
   * control and the pipe have taken all of them; the caller doesn't touch them
   * afterwards. Rejects with an {@link H2Error} if the stream ends first.
   */
  write(bytes: Uint8Array, end?: boolean): Promise<void>;
  /**
   * The next bytes, at once if there are any (`await` works for both), and
   * undefined after END_STREAM. They may be a view of a larger buffer. Their
   * window is given back by the next read, since the caller holds them until
   * then. Rejects with an {@link H2Error} if the stream was cut off, after the
   * bytes that came before. One read at a time.
   */
  read(): Uint8Array | undefined | Promise<Uint8Array | undefined>;
  /** The trailers, once read() gave undefined. Empty if there were none. */
  trailers(): Header[];
  /**
   * Ends the stream now (RST_STREAM with this error code): what is unread is
   * dropped, pending and later reads and writes reject. Ignored for a stream
   * that has ended both ways.
   */
  reset(code: number): void;
}
