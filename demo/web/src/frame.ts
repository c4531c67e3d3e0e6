/** A length-prefixed frame of gRPC or gRPC-Web. */
export interface Frame {
  flags: number;
  payload: Uint8Array;
}

/** A header or trailer. A name can occur more than once. */
export type Field = readonly [name: string, value: string];

export const headerBytes = 5;

/** The flag of a frame that holds headers or trailers instead of a message. */
export const blockFlag = 0x80;

/** Returns a function that takes chunks and returns the frames that are complete. */
export function createFrameReader(): (chunk: Uint8Array) => Frame[] {
  let held = new Uint8Array(0);
  return (chunk) => {
    const bytes = new Uint8Array(held.length + chunk.length);
    bytes.set(held);
    bytes.set(chunk, held.length);
    const frames: Frame[] = [];
    let at = 0;
    while (bytes.length - at >= headerBytes) {
      const length = new DataView(bytes.buffer, at + 1).getUint32(0);
      if (bytes.length - at - headerBytes < length) {
        break;
      }
      const begin = at + headerBytes;
      frames.push({
        flags: bytes[at] ?? 0,
        payload: bytes.slice(begin, begin + length),
      });
      at = begin + length;
    }
    held = bytes.slice(at);
    return frames;
  };
}

/** Returns the frame's bytes on the wire. */
export function rawFrame({ flags, payload }: Frame): Uint8Array {
  const raw = new Uint8Array(headerBytes + payload.length);
  raw[0] = flags;
  new DataView(raw.buffer).setUint32(1, payload.length);
  raw.set(payload, headerBytes);
  return raw;
}

/** Reads the "name: value" lines of a header block. */
export function parseBlock(payload: Uint8Array): Field[] {
  const fields: Field[] = [];
  for (const line of new TextDecoder().decode(payload).split("\r\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) {
      fields.push([line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]);
    }
  }
  return fields;
}

/** The last value of a name. */
export function lookUp(fields: readonly Field[], name: string): string | undefined {
  return fields.findLast(([n]) => n === name)?.[1];
}
