const none = new Uint8Array();

/** Bytes that came in pieces and wait for someone to take them. */
export interface Joined {
  size(): number;
  /** Appends bytes, which the caller doesn't touch afterwards. */
  add(bytes: Uint8Array): void;
  /** Everything so far, as one array. */
  take(): Uint8Array;
}

/** The largest buffer that is kept for less than it can hold. */
const maxBuffer = 1 << 18;

/**
 * Joins pieces in one array, which grows in steps of what has come, and under
 * 256 KiB also of the buffer in which it came. A lone piece isn't copied, unless it
 * would keep a larger buffer in memory.
 */
export function joined(): Joined {
  let box: Uint8Array = none;
  let used = 0;
  return {
    size: () => used,
    add(bytes) {
      const buffer = bytes.buffer.byteLength;
      const size = used + bytes.length;
      if (!used && buffer <= maxBuffer) {
        box = bytes;
      } else {
        if (size > box.length) {
          const old = box.subarray(0, used);
          box = new Uint8Array(Math.max(size, used >= maxBuffer ? 2 * used : Math.min(Math.max(2 * used, buffer), maxBuffer)));
          box.set(old);
        }
        box.set(bytes, used);
      }
      used = size;
    },
    take() {
      const bytes = box.subarray(0, used);
      box = none;
      used = 0;
      return bytes;
    },
  };
}

/** The number in the 4 octets from `at`. */
export const u32 = (b: Uint8Array, at: number) => ((b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!) >>> 0;

/** A number as 4 octets, once they are stored in a Uint8Array. */
export const octets = (n: number) => [n >> 24, n >> 16, n >> 8, n];

/** A string of bytes (U+0000 to U+00FF) from bytes. */
export function text(bytes: Iterable<number>): string {
  let s = "";
  for (const c of bytes) {
    s += String.fromCharCode(c);
  }
  return s;
}

/** The bytes of a string of bytes. */
export const raw = (s: string) => Uint8Array.from(s, (c) => c.charCodeAt(0));
