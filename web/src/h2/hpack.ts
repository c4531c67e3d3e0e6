import { maxListSize, maxTableSize } from "../limits.js";
import { text } from "./bytes.js";
import { malformed } from "./error.js";
import { unhuffman } from "./huffman.js";
import type { Header } from "./types.js";

// RFC 7541, appendix A.
const fields =
  ":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204|:status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control|content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type|cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate".split(
    "|",
  );
const table = fields.map((field) => `${field}=`.split("=", 2) as unknown as Header);

/**
 * Makes a decoder, which keeps the dynamic table of one connection. It takes
 * one header block after the other and returns undefined for a list that is too
 * large, which it follows nevertheless for the table's sake. Throws an H2Error,
 * COMPRESSION_ERROR, after which the table is of no use.
 */
export function decoder(): (block: Uint8Array) => Header[] | undefined {
  const dynamic: Header[] = [];
  let tableSize = 0;
  let limit = maxTableSize;

  const evict = () => {
    while (tableSize > limit) {
      tableSize -= fieldSize(dynamic.pop()!);
    }
  };

  return (block) => {
    const list: Header[] = [];
    let listSize = 0;
    let at = 0;

    // RFC 7541, section 5.1. Nothing of use is over 2^28.
    const integer = (bits: number) => {
      const most = (1 << bits) - 1;
      let n = block[at++]! & most;
      if (n === most) {
        let next: number;
        let unit = 1;
        do {
          next = block[at++]!;
          n += (next & 127) * unit;
          unit *= 128;
          if (unit > 2 ** 35) {
            malformed();
          }
        } while (next & 128);
      }
      return n;
    };
    const string = () => {
      const huffman = block[at]! & 128;
      const size = integer(7);
      at += size;
      const bytes = block.subarray(at - size, at);
      return text(huffman ? unhuffman(bytes) : bytes);
    };
    const field = (index: number) => table[index - 1] ?? dynamic[index - 62] ?? malformed();

    while (at < block.length) {
      const first = block[at]!;
      if (first >> 5 === 1) {
        limit = integer(5);
        if (listSize || limit > maxTableSize) {
          malformed();
        }
        evict();
      } else {
        let header: Header;
        if (first & 128) {
          header = field(integer(7));
        } else {
          const index = integer(first & 64 ? 6 : 4);
          header = [index ? field(index)[0] : string(), string()];
          if (first & 64) {
            dynamic.unshift(header);
            tableSize += fieldSize(header);
            evict();
          }
        }
        listSize += fieldSize(header);
        list.push(header);
      }
      if (at > block.length) {
        malformed();
      }
    }
    return listSize <= maxListSize ? list : undefined;
  };
}

const fieldSize = ([name, value]: Header) => name.length + value.length + 32;

/**
 * Encodes a header list, as octets once they are stored in a Uint8Array. It uses
 * the static table alone: fields that aren't in it are literals that no hop
 * indexes, since any of them may be secret. The connection's first block gives
 * up the dynamic table, which satisfies any SETTINGS_HEADER_TABLE_SIZE (RFC
 * 7541, section 4.2). Throws a TypeError if a name or a value can't be sent.
 */
export function encode(headers: readonly Header[], first?: boolean): number[] {
  const block = first ? [32] : [];
  const integer = (n: number, bits: number, flags: number) => {
    const most = (1 << bits) - 1;
    if (n < most) {
      block.push(flags | n);
    } else {
      block.push(flags | most);
      for (n -= most; n > 127; n >>= 7) {
        block.push(n | 128);
      }
      block.push(n);
    }
  };
  const string = (s: string) => {
    integer(s.length, 7, 0);
    for (const c of s) {
      block.push(c.charCodeAt(0));
    }
  };
  for (const [name, value] of headers) {
    if (!valid(name, value)) {
      throw new TypeError(`header ${JSON.stringify(name)} has a character that can't be sent`);
    }
    // An index counts from 1.
    const index = fields.indexOf(`${name}=${value}`) + 1;
    if (index) {
      integer(index, 7, 128);
    } else {
      const index = fields.indexOf(name) + 1;
      integer(index, 4, 16);
      if (!index) {
        string(name);
      }
      string(value);
    }
  }
  return block;
}

/** Whether a field, or a request's pseudo-header, can be sent (RFC 9113, section 8.2.1; no control characters in values). */
export const valid = (name: string, value: string) => /^:?[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name) && /^[\t -~\x80-\xff]*$/.test(value);
