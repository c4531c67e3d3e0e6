// Runs one job with one client and says what the client saw. A job and an
// observation are those of ../matrix_scenario_test.go.
//
// A client is a function that gets a call and resolves to how it ended, the one
// thing that a file client-*.js has to offer:
//
//   call.address     "http://127.0.0.1:8080"
//   call.proxy       "http://127.0.0.1:3128": a forward proxy that the client must go through
//   call.method      "Unary"; call.kind says which of the four kinds that is
//   call.metadata    [name, value] pairs; values of "-bin" names are Uint8Arrays
//   call.timeoutMS   undefined: none
//   call.compress    with gzip, if the client can
//   call.signal      aborted when the call shall be cancelled
//   call.requests    an AsyncIterable of { sequence, text, payload }
//   call.onHeader    to be called with the [name, value] pairs of the header
//   call.onReply     to be called with each reply; what can wait before it takes
//                    the next reply, waits for the promise
//   the end          { code, message, trailer: pairs, details or detailsBin }
//
// Text is what the client shows; binary values may be bytes or base64.

/** What was seen so far in the calls that run. */
export const running = new Set();

export async function run(job, client) {
  const began = performance.now();
  const seen = { client: job.client, scenario: job.scenario, id: job.id, replies: [], header: {}, trailer: {} };
  running.add(seen);
  const abort = new AbortController();
  let over = false;
  const replies = new Progress(() => seen.replies.length);
  const call = {
    address: job.address,
    proxy: job.proxy,
    method: job.method,
    kind: { ServerStream: "server", ClientStream: "client", Bidi: "bidi" }[job.method] ?? "unary",
    metadata: job.metadata.map((f) => [f.name, f.name.endsWith("-bin") ? fromBase64(f.bytes ?? "") : (f.value ?? "")]),
    timeoutMS: job.timeout_ms || undefined,
    compress: job.compress,
    signal: abort.signal,
    requests: requests(job, replies, () => over),
    onHeader(pairs) {
      collect(seen.header, pairs);
      if (job.cancel_on_header) {
        abort.abort();
      }
    },
    async onReply(reply) {
      took(seen, reply);
      replies.tell();
      if (seen.replies.length === job.cancel_after) {
        abort.abort();
      }
      if (job.pause_ms && seen.replies.length === 1) {
        await new Promise((resolve) => setTimeout(resolve, job.pause_ms));
      }
    },
  };
  try {
    const end = await Promise.race([client(call), tooLong(job.patience_ms)]);
    seen.code = end.code;
    seen.message = end.message;
    collect(seen.trailer, end.trailer ?? []);
    seen.details = end.details;
    seen.details_bin = end.detailsBin ?? seen.trailer["grpc-status-details-bin"]?.[0];
    seen.cancelled = end.code === 1 && abort.signal.aborted;
  } catch (e) {
    seen.error = String(e?.stack ?? e);
    abort.abort();
  }
  over = true;
  running.delete(seen);
  replies.tell();
  for (const reply of seen.replies) {
    reply.sha256 = hex(await sha256(reply.payload));
    delete reply.payload;
  }
  seen.millis = Math.round(performance.now() - began);
  return seen;
}

function tooLong(patience) {
  return new Promise((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`the call has not ended after ${patience} ms`)), patience);
    timer.unref?.(); // Node need not wait for it
  });
}

// A Progress lets others wait until a count is high enough, or told anew.
class Progress {
  constructor(count) {
    this.count = count;
    this.waiting = [];
  }
  tell() {
    for (const wake of this.waiting.splice(0)) {
      wake();
    }
  }
  async reaches(n, over) {
    while (this.count() < n && !over()) {
      await new Promise((resolve) => this.waiting.push(resolve));
    }
  }
}

// requests yields the job's requests when their turn has come.
async function* requests(job, replies, over) {
  await replies.reaches(job.replies_first, over);
  for (let i = 0; i < job.requests.length && !over(); i++) {
    if (job.ping_pong) {
      await replies.reaches(i, over);
    }
    yield request(job, i);
  }
  if (job.ping_pong) {
    await replies.reaches(job.requests.length, over);
  }
}

function request(job, sequence) {
  const { text = "", bytes = 0 } = job.requests[sequence];
  const payload = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) {
    payload[i] = i * 31 + 7;
  }
  return { sequence, text, payload };
}

function took(seen, reply) {
  seen.replies.push({
    sequence: Number(reply.sequence),
    text: reply.text,
    received: Number(reply.received),
    bytes: reply.payload.length,
    payload: reply.payload,
  });
  if (reply.metadata.length > 0) {
    seen.metadata = Object.fromEntries(
      reply.metadata.map((f) => [f.name, f.values.map((v) => (f.name.endsWith("-bin") ? base64(v) : new TextDecoder().decode(v)))]),
    );
  }
}

// collect adds pairs to a map of lists. Browsers join the values of one name.
function collect(into, pairs) {
  for (const [name, value] of pairs) {
    for (const v of typeof value === "string" ? value.split(",") : [base64(value)]) {
      into[name] ??= [];
      into[name].push(v.trim().replace(name.endsWith("-bin") ? /=+$/ : "", ""));
    }
  }
}

/** The only request of a call that has one. */
export async function only(requests) {
  for await (const r of requests) {
    return r;
  }
  throw new Error("BUG: the job has no request");
}

/** Base64 without padding. */
export function base64(bytes) {
  return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join("")).replace(/=+$/, "");
}

function fromBase64(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

const empty = new Uint8Array(0);
let sumOfNothing;

function sha256(bytes) {
  if (bytes.length > 0) {
    return crypto.subtle.digest("SHA-256", bytes);
  }
  sumOfNothing ??= crypto.subtle.digest("SHA-256", empty);
  return sumOfNothing;
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (b) => b.toString(16).padStart(2, "0")).join("");
}
