import { malformed } from "./error.js";

// The length of each octet's code and of EOS's, from a for 5 bits to z for 30 (RFC
// 7541, appendix B). The lengths are enough: among codes of one length the order is
// that of the octets, and longer codes follow shorter ones.
const lengths = [
  ..."isxxxxxxxtzxxzxxxxxxxxzxxxxxxxxxbffhibdgffdgdbbbaaabbbbbbbcdkbhfibccccccccccccccccccccccdcdioijbkabababbbaccbbbabcbaabccccckgjixprpprrrsrssssststtrstssssqrsrsstrqprrssqsrrtqrssqqrqsrssprrrsrrsvvporsruvvvwwvtuoqvwwvwtqqvvxwwwptpqrqqsrruuttvsvwvvwwwwwxwwwwwvz",
].map((c) => c.charCodeAt(0) - 92);
/** Octets, and EOS as 256, by their codes with a 1 before, which tells how long a code is. */
const octets = new Map<number, number>();
for (let bits = 5, code = 1 << bits; bits < 31; bits++, code *= 2) {
  lengths.forEach((length, octet) => {
    if (length === bits) {
      octets.set(code++, octet);
    }
  });
}

/** Decodes a string literal (RFC 7541, section 5.2). Throws an H2Error, COMPRESSION_ERROR. */
export function unhuffman(bytes: Uint8Array): number[] {
  const decoded: number[] = [];
  let code = 1;
  for (const byte of bytes) {
    for (let shift = 7; shift >= 0; shift--) {
      code = (code << 1) | ((byte >> shift) & 1);
      const octet = octets.get(code);
      if (octet !== undefined) {
        decoded.push(octet > 255 ? malformed() : octet);
        code = 1;
      }
    }
  }
  // The padding is less than an octet of ones, the beginning of EOS.
  if (code > 255 || code & (code + 1)) {
    malformed();
  }
  return decoded;
}
