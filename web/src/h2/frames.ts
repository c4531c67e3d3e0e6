import { joined, u32 } from "./bytes.js";

/** Frame types (RFC 9113, section 6). */
// biome-ignore lint/suspicious/noConstEnum: all that use it are compiled with it, and bundlers don't inline constants of other files
export const enum Type {
  Data = 0,
  Headers = 1,
  RstStream = 3,
  Settings = 4,
  PushPromise = 5,
  Ping = 6,
  Goaway = 7,
  WindowUpdate = 8,
  Continuation = 9,
}

/** Flags of frames (RFC 9113, section 6). */
// biome-ignore lint/suspicious/noConstEnum: as above
export const enum Flag {
  Ack = 1,
  // biome-ignore lint/suspicious/noDuplicateEnumValues: it depends on the frame's type what a flag means
  EndStream = 1,
  EndHeaders = 4,
  Padded = 8,
  Priority = 32,
}

/** The largest frame's payload, both ways: the default of SETTINGS_MAX_FRAME_SIZE, which no setting can lower. */
export const maxFrameSize = 16384;

/**
 * Makes a function that takes a connection's bytes, in any pieces, and calls
 * `onframe` for each frame. Payloads are views where a frame came in one piece.
 * For a frame that is too large it calls `ontoolarge`, before its payload has come.
 */
export function splitter(
  onframe: (type: number, flags: number, id: number, payload: Uint8Array) => void,
  ontoolarge: () => never,
): (bytes: Uint8Array) => void {
  const part = joined();
  let header: Uint8Array | undefined;
  return (bytes) => {
    let at = 0;
    const take = (size: number) => {
      const piece = bytes.subarray(at, at + size - part.size());
      at += piece.length;
      if (piece.length === size) {
        return piece;
      }
      part.add(piece);
      return part.size() < size ? undefined : part.take();
    };
    for (;;) {
      header ??= take(9);
      if (!header) {
        return;
      }
      const size = u32(header, 0) >>> 8;
      if (size > maxFrameSize) {
        ontoolarge();
      }
      const payload = take(size);
      if (!payload) {
        return;
      }
      const [, , , type, flags] = header;
      const id = u32(header, 5) & 0x7fffffff;
      header = undefined;
      onframe(type!, flags!, id, payload);
    }
  };
}
