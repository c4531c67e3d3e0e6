/**
 * What HTTP/2 runs over: bytes both ways, in order. The side that makes the
 * pipe implements the methods and calls the handlers, which {@link connect}
 * sets. A pipe that has ended stays ended.
 */
export interface Pipe {
  /** Sends bytes, which the caller doesn't touch afterwards. Returns true, unless the pipe drops them, since it ends. */
  write(bytes: Uint8Array): boolean | undefined;
  /** How many written bytes haven't left yet. DATA is written only while this is under 64 KiB. */
  pending(): number;
  /** Closes both ways, after what was written. May be called twice. */
  close(): void;
  /** Takes bytes that came. The pipe doesn't touch them afterwards. */
  onbytes: (bytes: Uint8Array) => void;
  /** Tells that no more bytes come or leave, and why: "closed with 1012: service restart". */
  onend: (cause: string) => void;
  /** Tells that pending() fell under 64 KiB after it had been above. */
  ondrain: () => void;
}
