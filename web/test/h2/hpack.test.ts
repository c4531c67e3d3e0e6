import { decoder, encode } from "../../src/h2/hpack.js";
import { unhuffman } from "../../src/h2/huffman.js";
import type { Header } from "../../src/h2/index.js";
import { deepEqual, equal, match, ok, rejects, seeded, test } from "../harness.js";
import { hex, unhex } from "./server.js";

/** What a decoder that has 256 octets for its table, as in C.5 and C.6, is told first. */
const table256 = "3fe101";

/** The header blocks of RFC 7541, appendix C, what they mean, and the dynamic table after each. */
const examples: { name: string; before?: string; steps: [block: string, list: string[], dynamic: string[]][] }[] = [
  {
    name: "C.2.1",
    steps: [
      ["400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", ["custom-key: custom-header"], ["custom-key: custom-header"]],
    ],
  },
  { name: "C.2.2", steps: [["040c 2f73 616d 706c 652f 7061 7468", [":path: /sample/path"], []]] },
  { name: "C.2.3", steps: [["1008 7061 7373 776f 7264 0673 6563 7265 74", ["password: secret"], []]] },
  { name: "C.2.4", steps: [["82", [":method: GET"], []]] },
  ...["C.3", "C.4"].map((name) => ({
    name,
    steps: (
      [
        [
          ["8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"],
          [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
          [":authority: www.example.com"],
        ],
        [
          ["8286 84be 5808 6e6f 2d63 6163 6865", "8286 84be 5886 a8eb 1064 9cbf"],
          [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
          ["cache-control: no-cache", ":authority: www.example.com"],
        ],
        [
          [
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
          ],
          [":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"],
          ["custom-key: custom-value", "cache-control: no-cache", ":authority: www.example.com"],
        ],
      ] as const
    ).map(([blocks, list, dynamic]): [string, string[], string[]] => [blocks[name === "C.3" ? 0 : 1], [...list], [...dynamic]]),
  })),
  ...["C.5", "C.6"].map((name) => ({
    name,
    before: table256,
    steps: (
      [
        [
          [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
          ],
          [":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"],
          ["location: https://www.example.com", "date: Mon, 21 Oct 2013 20:13:21 GMT", "cache-control: private", ":status: 302"],
        ],
        [
          ["4803 3330 37c1 c0bf", "4883 640e ffc1 c0bf"],
          [":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT", "location: https://www.example.com"],
          [":status: 307", "location: https://www.example.com", "date: Mon, 21 Oct 2013 20:13:21 GMT", "cache-control: private"],
        ],
        [
          [
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
          ],
          [
            ":status: 200",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:22 GMT",
            "location: https://www.example.com",
            "content-encoding: gzip",
            "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
          ],
          [
            "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            "content-encoding: gzip",
            "date: Mon, 21 Oct 2013 20:13:22 GMT",
          ],
        ],
      ] as const
    ).map(([blocks, list, dynamic]): [string, string[], string[]] => [blocks[name === "C.5" ? 0 : 1], [...list], [...dynamic]]),
  })),
];

const lines = (list: Header[] | undefined) => list?.map(([name, value]) => `${name}: ${value}`);

for (const { name, before = "", steps } of examples) {
  test(`decodes example ${name} of RFC 7541`, async () => {
    const decode = decoder();
    decode(unhex(before));
    for (const [block, list, dynamic] of steps) {
      deepEqual(lines(decode(unhex(block))), list);
      // The dynamic table begins at index 62, which is 0xbe as an indexed field.
      deepEqual(lines(decode(Uint8Array.from(dynamic, (_, i) => 0xbe + i))), dynamic);
    }
    const [, , dynamic] = steps.at(-1)!;
    await rejects(() => decode(Uint8Array.of(0xbe + dynamic.length)), /malformed header block/);
  });
}

test("decodes integers of RFC 7541, C.1", () => {
  // As table sizes, which have a prefix of 5 bits: 10 and 1337. 42 starts at an octet, so it is the length of a string.
  const decode = decoder();
  deepEqual(decode(unhex("2a3f9a0a")), []);
  equal(decode(Uint8Array.of(0, 1, 120, 42, ...new Uint8Array(42).fill(97)))?.[0]?.[1].length, 42);
  const long = Uint8Array.of(0, 1, 120, 127, 186, 9, ...new Uint8Array(1337).fill(97)); // 1337 with 7 bits
  equal(decode(long)?.[0]?.[1].length, 1337);
});

test("encodes as the examples of RFC 7541 do, where it uses the same representation", () => {
  for (const [name, list] of [
    ["C.2.3", [["password", "secret"]]],
    ["C.2.4", [[":method", "GET"]]],
  ] as [string, Header[]][]) {
    const block = examples.find((e) => e.name === name)?.steps[0]?.[0] ?? "";
    equal(hex(encode(list)), block.replaceAll(" ", ""));
  }
  // Never indexed instead of without indexing.
  equal(hex(encode([[":authority", "www.example.com"]])), "110f7777772e6578616d706c652e636f6d");
  equal(hex(encode([], true)), "20");
});

test("decodes every octet's Huffman code", () => {
  const all =
    "ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfffffebfffffecfffffedfffffe" +
    "efffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdffffffe3fffffe7fffffebfffffed4fe3f9ffaffcabf1febf" +
    "afefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7fffc3ff9ffe45fff4719242c" +
    "b34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ffff53fffd5ffffb3fffeb7fffdaffffb7ffff73ff" +
    "feeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffffeeffffc3ffff8bffff1ffffe4fffee7fffb1ffff97fffd9ffffcdffff9fffffbffffdaff" +
    "feeffff4ffffb7fffee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fffff5ffffecffff07fff87fffe0ffff17fffedffff87ffff77" +
    "fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1fffebfffe3ffff3fffff2ffffa3ffffd9fffff17ffffc7fffff27ffffd" +
    "efffffbffffff2fffff8fffffb7fff97fff8fffffe6fffffc1fffff87ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff4ffffffefffffe3fffffc9" +
    "fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffffcffffeaffffafffffddffffeffffff4fffff5fffffabffffa7ffffd7fffff9bffffecfff" +
    "ffb7fffff3fffffe8fffffd3fffffabfffff5fffffff7ffffecfffffdbfffffbbfffff7ffffff0fffffbbf";
  deepEqual(
    unhuffman(unhex(all)),
    Array.from({ length: 256 }, (_, i) => i),
  );
});

test("refuses what isn't Huffman", async () => {
  for (const [what, bytes] of [
    ["an octet of padding", "ff"],
    ["a and an octet of padding", "1fff"],
    ["a and 3 octets of padding", "1fffffff"],
    ["EOS", "fffffffc"],
    ["EOS as padding", "ffffffffff"],
    ["EOS after a", "1fffffffff"],
    ["padding of zeros", "18"],
    ["padding that isn't the beginning of EOS", "1e"],
    ["half a code", "fe"],
  ] as const) {
    const e = await rejects(() => unhuffman(unhex(bytes)), /malformed header block/);
    equal((e as Error & { code: number }).code, 9, what);
  }
  deepEqual(unhuffman(unhex("1f")), [97]);
  deepEqual(unhuffman(unhex("")), []);
});

test("refuses what isn't a header block", async () => {
  for (const [what, block] of [
    ["index 0", "80"],
    ["an index after the tables", "be"],
    ["a name with an index after the tables", "7e0161"],
    ["an index over 2^32", "ffffffffff7f"],
    ["an index over 2^64", "ffffffffffffffffffff7f"],
    ["an index that never ends", "ff80808080808080808000"],
    ["an index of 200 octets", `ff${"80".repeat(200)}00`],
    ["a name's length of 200 octets", `407f${"80".repeat(200)}00`],
    ["a table's size of 200 octets", `3f${"80".repeat(200)}00`],
    ["an index that is cut off", "ff"],
    ["an index that is cut off later", "ff80"],
    ["a name without a length", "40"],
    ["a name that is cut off", "40056162"],
    ["a value without a length", "400161"],
    ["a value that is cut off", "4001610562"],
    ["a value of 2^32 octets", "4001617f81ffffff0f"],
    ["a Huffman string that is cut off", "40016185a8"],
    ["bad Huffman padding in a name", "4081ff0162"],
    ["bad Huffman padding in a value", "40016181ff"],
    ["a table over the limit", "3fe21f"],
    ["a table of over 2^32", "3fffffffff7f"],
    ["a table's size after a field", "8220"],
    ["a table's size that is cut off", "3f"],
  ] as const) {
    const e = await rejects(() => decoder()(unhex(block)), /malformed header block/);
    equal((e as Error & { code: number }).code, 9, what);
  }
  deepEqual(decoder()(unhex("3fe11f")), [], "a table of 4096");
  deepEqual(decoder()(unhex("203fe11f82")), [[":method", "GET"]], "two sizes before a field");
});

test("evicts fields from the dynamic table, and all for one that is too large", async () => {
  const decode = decoder();
  const add = (name: string, size: number) =>
    decode(Uint8Array.of(0x40, 1, name.charCodeAt(0), 127, ...varint(size - 127), ...new Uint8Array(size).fill(98)));
  add("x", 1000);
  add("y", 4096 - 1033 - 33);
  deepEqual(
    decode(unhex("bebf"))?.map(([name]) => name),
    ["y", "x"],
    "they fit exactly",
  );
  add("z", 150);
  deepEqual(
    decode(unhex("bebf"))?.map(([name]) => name),
    ["z", "y"],
  );
  add("w", 4096 - 32);
  await rejects(() => decode(unhex("be")), /malformed/);
  // A field may refer to the name of one that it evicts (RFC 7541, section 4.4).
  const again = decoder();
  again(unhex("3f0b" + "40" + "0161" + "0162")); // 42 octets
  deepEqual(again(unhex("7e" + "0163")), [["a", "c"]]);
  deepEqual(again(unhex("be")), [["a", "c"]]);
  again(unhex("20"));
  await rejects(() => again(unhex("be")), /malformed/);
});

const varint = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >> 7)]);

test("gives up a header list over 64 KiB, and keeps its table right", () => {
  const decode = decoder();
  // A field of 4,000 octets that is referred to by one octet each time.
  const bomb = new Uint8Array(4 + 2 + 3000 + 200_000).fill(0xbe);
  bomb.set([0x40, 1, 97, 127, ...varint(3000 - 127), ...new Uint8Array(3000).fill(98)]);
  equal(decode(bomb), undefined);
  deepEqual(decode(unhex("be")), [["a", "b".repeat(3000)]]);
  // Exactly 64 KiB, and an octet more.
  const field = (size: number) => Uint8Array.of(0, 1, 97, 127, ...varint(size - 127), ...new Uint8Array(size).fill(98));
  ok(decode(field(65536 - 33)));
  equal(decode(field(65536 - 32)), undefined);
  // A field that follows a list which is too large enters the table.
  equal(decode(Uint8Array.of(...field(65536), ...unhex("4001630164"))), undefined);
  deepEqual(decode(unhex("be")), [["c", "d"]]);
});

test("decodes what it has encoded", () => {
  const next = seeded(7541);
  const decode = decoder();
  for (let round = 0; round < 200; round++) {
    const list = Array.from({ length: next(20) }, (): Header => {
      const name = [":path", ":method", "accept", "grpc-timeout", "x", "content-type", "a".repeat(1 + next(300))][next(7)]!;
      const value = String.fromCharCode(...Array.from({ length: next(4) ? next(20) : next(2000) }, () => 32 + next(95)), 160 + next(96));
      return [name, next(5) ? value : "POST"];
    });
    deepEqual(decode(Uint8Array.from(encode(list, round === 0))), list);
  }
});

test("doesn't send a header with characters that HTTP forbids", async () => {
  for (const [name, value] of [
    ["X", "a"],
    ["", "a"],
    ["a b", "a"],
    ["a:", "a"],
    ["ä", "a"],
    ["a\n", "a"],
    ["a", "b\r\nc: d"],
    ["a", "\0"],
    ["a", "\u010a"],
    ["a", "\u{1f600}"],
  ] as Header[]) {
    const e = await rejects(() => encode([[name, value]]), TypeError);
    match(e.message, /has a character that can't be sent/);
  }
  deepEqual(decoder()(Uint8Array.from(encode([["a", "\t é \xff"]]))), [["a", "\t é \xff"]]);
});
