// Compares what this client and net/http's make of the same frames, step by step: what
// they send and what their callers see. e2e/sequences makes the frames.

import { connect, type Pipe, type Stream } from "../../src/h2/index.js";
import { deepEqual, env, equal, ok, test } from "../harness.js";
import { fnv, unhex } from "./server.js";

interface Sequence {
  seed: number;
  streams: number;
  steps: { bytes: string; fault?: string; events: string[] }[];
}

/** So many sequences have every difference. */
const enough = 4000;

interface Difference {
  /** The fault after which it is seen, or any. */
  fault: RegExp;
  /** What only this client does, and what only the other does, joined by commas. */
  ours: RegExp;
  theirs: RegExp;
  /** It is seen when no stream is open. */
  idle?: boolean;
  /** What the comparison goes on with: all streams, those that aren't named in the step, or none. */
  goOn: "all" | "others" | "none";
  rfc: string;
  why: string;
}

const nothing = /^$/;
const resets = /^(\d+ error, )?RST_STREAM \d+ 1$/;
const ends = /^(\d+ error, )*GOAWAY 1, closed$/;

const differences: Difference[] = [
  {
    fault: /^/,
    ours: nothing,
    theirs: /^closed$/,
    idle: true,
    goOn: "none",
    rfc: "RFC 9113 §9.1",
    why: "net/http gives up a connection on which a stream ended with PROTOCOL_ERROR",
  },
  {
    fault: /^GOAWAY/,
    ours: /^closed$/,
    theirs: nothing,
    idle: true,
    goOn: "none",
    rfc: "RFC 9113 §6.8",
    why: "a connection that takes no more streams is closed after the last one; net/http does so when it wants one more",
  },
  {
    fault:
      /^(trailers that|a second header|an informational header behind|trailers with|a value with|a name|two :status|no :status|an empty|a :status|a request's|an unknown pseudo)/,
    ours: resets,
    theirs: ends,
    goOn: "none",
    rfc: "RFC 9113 §8.1.1",
    why: "a malformed answer ends its stream; net/http ends the connection when such a block has several frames, or comes too late",
  },
  {
    fault: /^a :status (of two|with a sign)/,
    ours: resets,
    theirs: /^\d+ head /,
    goOn: "others",
    rfc: "RFC 9110 §15",
    why: "a status has three digits; net/http takes any number",
  },
  {
    fault: /^PRIORITY/,
    ours: nothing,
    theirs: /^(\d+ error, )*(GOAWAY [16], )?closed$/,
    goOn: "none",
    rfc: "RFC 9113 §5.3.2",
    why: "priorities are deprecated, so the frame isn't looked at",
  },
  {
    fault: /^HEADERS too short/,
    ours: resets,
    theirs: /^(\d+ error, )*closed$/,
    goOn: "none",
    rfc: "RFC 9113 §6.2",
    why: "it is a header without :status, as an empty one is",
  },
  {
    fault: /^(less|more) content/,
    ours: /^(\d+ data 3 \w+, )?\d+ end \[\]$/,
    theirs: /^(\d+ data 2 \w+, )?\d+ error$/,
    goOn: "others",
    rfc: "RFC 9113 §8.1.1",
    why: "content-length isn't looked at: a stream's end is known, and gRPC's messages have their own lengths",
  },
  {
    fault: /^(WINDOW_UPDATE|RST_STREAM|HEADERS|DATA) on a stream (that isn't open|of the server's)/,
    ours: /^(\d+ error, )*GOAWAY 1, closed$/,
    theirs: nothing,
    goOn: "none",
    rfc: "RFC 9113 §5.1",
    why: "only HEADERS may come for an idle stream, and none that this end hasn't opened; net/http passes over it",
  },
  {
    fault: /^an acknowledgement at first/,
    ours: /^(\d+ error, )*closed$/,
    theirs: nothing,
    goOn: "none",
    rfc: "RFC 9113 §3.4",
    why: "the preface has the server's own SETTINGS; net/http takes any",
  },
  {
    fault: /^ENABLE_PUSH of 1/,
    ours: /^(\d+ error, )*GOAWAY 1, closed$/,
    theirs: /^SETTINGS$/,
    goOn: "none",
    rfc: "RFC 9113 §6.5.2",
    why: "a server must not send it; net/http doesn't look",
  },
  {
    fault: /^padding as long as HEADERS/,
    ours: /^((\d+ error, )*GOAWAY 1, closed)?$/,
    theirs: /^RST_STREAM \d+ 1$/,
    goOn: "none",
    rfc: "RFC 9113 §6.2",
    why: "that is a connection error; for net/http a stream's",
  },
  {
    fault: /^a new table size behind a field/,
    ours: /^(\d+ error, )*GOAWAY 9, closed$/,
    theirs: /^\d+ head /,
    goOn: "none",
    rfc: "RFC 7541 §4.2",
    why: "it comes at a block's beginning alone; net/http doesn't look while the table is empty",
  },
];

/** The events of a whole connection, step by step, as e2e/sequences tells them. */
async function play({ streams, steps }: Sequence) {
  let events: string[] = [];
  const note = (event: string) => events.push(event);
  let sent = new Uint8Array(0);
  const pipe: Pipe = {
    write(bytes) {
      sent = new Uint8Array([...sent, ...bytes]);
      return true;
    },
    pending: () => 0,
    close: () => note("closed"),
    onbytes() {},
    onend() {},
    ondrain() {},
  };
  const follow = async (stream: Stream, id: number) => {
    try {
      note(`${id} head ${pairs(await stream.head)}`);
      for (let bytes = await stream.read(); bytes; bytes = await stream.read()) {
        bodies.set(id, [...(bodies.get(id) ?? []), ...bytes]);
      }
      note(`${id} end ${pairs(stream.trailers())}`);
    } catch {
      note(`${id} error`);
    }
  };
  const bodies = new Map<number, number[]>();
  const connection = connect(
    pipe,
    () => void Promise.resolve().then(() => connection.close()), // as who takes another one does
    () => {},
  );
  let ready = false;
  connection.ready.then(
    () => {
      ready = true;
    },
    () => {},
  );
  await settled();
  sent = sent.subarray(24);
  const all: string[][] = [];
  const settle = async () => {
    await settled();
    for (const [id, body] of bodies) {
      note(`${id} data ${body.length} ${fnv(body).toString(16).padStart(8, "0")}`);
    }
    bodies.clear();
    for (; sent.length > 0; ) {
      const view = new DataView(sent.buffer, sent.byteOffset, sent.length);
      const size = view.getUint32(0) >>> 8;
      const [type, flags] = [sent[3], sent[4]!];
      const id = view.getUint32(5);
      if (type === 3) {
        note(`RST_STREAM ${id} ${view.getUint32(9)}`);
      } else if (type === 7) {
        note(`GOAWAY ${view.getUint32(13)}`);
      } else if (type === 6 && flags & 1) {
        note(`PING ${Array.from(sent.subarray(9, 17), (b) => b.toString(16).padStart(2, "0")).join("")}`);
      } else if (type === 4 && flags & 1) {
        note("SETTINGS");
      }
      sent = sent.subarray(9 + size);
    }
    all.push([...new Set(events)].sort());
    events = [];
  };
  for (const [i, { bytes }] of steps.entries()) {
    if (i === steps.length - 1) {
      pipe.close = () => {};
      pipe.onend("the end");
    } else {
      pipe.onbytes(unhex(bytes));
    }
    if (i === 0) {
      await settled();
      for (let id = 1; id < 2 * streams; id += 2) {
        if (ready) {
          void follow(connection.open([[":method", "GET"]], true), id);
        } else {
          note(`${id} error`);
        }
      }
    }
    await settle();
    if (all.at(-1)?.includes("closed")) {
      break;
    }
  }
  return all;
}

/** Everything that follows has happened. */
async function settled() {
  for (let i = 0; i < 100; i++) {
    await undefined;
  }
}

function pairs(list: readonly (readonly [string, string])[]) {
  // Stable, so values of one name stay in order. Fields of the connection have no place here.
  return JSON.stringify([...list].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)).flat());
}

/** Compares, and returns the differences that explain what differs, or throws what none explains. */
function compare(s: Sequence, ours: string[][]): Difference[] {
  const known: Difference[] = [];
  const apart = new Set<string>();
  const open = new Set(Array.from({ length: s.streams }, (_, i) => String(2 * i + 1)));
  let fault = "";
  /** What net/http did inside a header block, and this client has to do at its end. */
  let early: string[] = [];
  let late: string[] = [];
  for (const [i, { bytes, events, fault: begins }] of s.steps.entries()) {
    fault = begins ?? fault;
    const inBlock = /^.{6}0[19]/.test(bytes) && (Number.parseInt(bytes.slice(8, 10), 16) & 4) === 0;
    late.push(...(ours[i] ?? []));
    early.push(...events);
    if (inBlock && i < s.steps.length - 2) {
      continue;
    }
    const closed = early.includes("closed");
    const names = (e: string) => e.match(/^(?:RST_STREAM )?(\d+)/)?.[1];
    const only = (x: string[], y: string[]) => [...new Set(x)].filter((e) => !y.includes(e) && !apart.has(names(e) ?? "")).sort();
    const a = only(late, early)
      // net/http closes the connection before its GOAWAY leaves; errors of calls tell its code, if there are calls.
      .filter((e) => !(e.startsWith("GOAWAY ") && closed && !early.some((x) => x.startsWith("GOAWAY "))));
    // It resets streams that the server has dropped.
    const b = only(early, late).filter((e) => !/^RST_STREAM \d+ 8$/.test(e));
    for (const e of late) {
      open.delete(e.match(/^(\d+) (end|error)/)?.[1] ?? "");
    }
    if (a.length > 0 || b.length > 0) {
      const [x, y] = [a.join(", "), b.join(", ")];
      const d = differences.find((d) => d.fault.test(fault) && d.ours.test(x) && d.theirs.test(y) && (!d.idle || open.size === 0));
      if (!d) {
        const frame = `${bytes.slice(0, 100)} (${bytes.length / 2} bytes)`;
        throw new Error(`seed ${s.seed}, step ${i} of ${s.steps.length}, fault ${fault || "none"}: ${frame}\n  ours   ${x}\n  theirs ${y}`);
      }
      known.push(d);
      if (d.goOn === "none") {
        return known;
      }
      if (d.goOn === "others") {
        for (const e of [...a, ...b]) {
          apart.add(names(e) ?? "");
        }
      }
    }
    if (closed) {
      return known;
    }
    [early, late] = [[], []];
  }
  return known;
}

test("it does what net/http's client does", async () => {
  const answer = await fetch(`${env.page}/sequences`);
  ok(answer.ok, "there are no sequences: make web makes them");
  const failures: string[] = [];
  const counts = new Map(differences.map((d) => [d, 0]));
  const sequences = (await answer.text()).trim().split("\n");
  for (const line of sequences) {
    const s = JSON.parse(line) as Sequence;
    try {
      for (const d of compare(s, await play(s))) {
        counts.set(d, (counts.get(d) ?? 0) + 1);
      }
    } catch (e) {
      failures.push((e as Error).message);
    }
  }
  equal(failures.slice(0, 50).join("\n"), "", `${failures.length} of ${sequences.length} sequences`);
  if (sequences.length >= enough) {
    const never = differences.filter((d) => counts.get(d) === 0).map((d) => d.why);
    deepEqual(never, [], "no sequence has these differences");
  }
});
