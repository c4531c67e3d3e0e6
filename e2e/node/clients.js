// The published clients, each behind one function: run a job, say what it saw.
// A job and an observation are those of ../matrix_scenario_test.go.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import improbable from "@improbable-eng/grpc-web";
import { Probe, ReplySchema, RequestSchema } from "./probe_pb.js";

const { grpc } = improbable;
const patience = 20_000; // for a call that should have ended

// The service with a method that no server has.
const service = { ...Probe, methods: [...Probe.methods, { ...Probe.method.unary, name: "Missing", localName: "missing" }] };

/** Runs a job with the client that it names. */
export async function run(job, address, transports) {
  const began = performance.now();
  const observation = { client: job.client, scenario: job.scenario, id: job.id, replies: [], header: {}, trailer: {} };
  const name = job.client.slice(job.client.indexOf(" ") + 1);
  const call = name === "connect-web" ? connectWeb : improbableGrpcWeb(transports[name]);
  try {
    await Promise.race([call(job, address, observation), tooLong()]);
  } catch (e) {
    observation.error = String(e?.stack ?? e);
  }
  for (const reply of observation.replies) {
    reply.sha256 = hex(await crypto.subtle.digest("SHA-256", reply.payload));
    delete reply.payload;
  }
  observation.millis = Math.round(performance.now() - began);
  return observation;
}

function tooLong() {
  return new Promise((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`the call has not ended after ${patience} ms`)), patience);
    timer.unref?.(); // Node need not wait for it
  });
}

// --- @connectrpc/connect-web ---------------------------------------------

async function connectWeb(job, address, seen) {
  const client = createClient(service, createGrpcWebTransport({ baseUrl: address, useBinaryFormat: true }));
  const abort = new AbortController();
  const options = {
    signal: abort.signal,
    timeoutMs: job.timeout_ms || undefined,
    headers: job.metadata.map((f) => [f.name, fieldValue(f)]),
    onHeader: (h) => collect(seen.header, h.entries()),
    onTrailer: (t) => collect(seen.trailer, t.entries()),
  };
  try {
    if (job.method === "ServerStream") {
      for await (const reply of client.serverStream(request(job, 0), options)) {
        took(seen, reply);
        if (seen.replies.length === job.cancel_after) {
          abort.abort();
        }
      }
    } else {
      took(seen, await client[job.method === "Unary" ? "unary" : "missing"](request(job, 0), options));
    }
    seen.code = 0;
  } catch (e) {
    if (!(e instanceof ConnectError)) {
      throw e;
    }
    seen.code = e.code;
    seen.message = e.rawMessage;
    seen.details = e.details.map((d) => ({ type: d.type, value: base64(d.value) }));
    collect(seen.trailer, e.metadata.entries());
    if (e.code === Code.Canceled && abort.signal.aborted) {
      seen.cancelled = true;
    }
  }
}

// --- @improbable-eng/grpc-web --------------------------------------------

class ProbeMessage {
  constructor(schema, message) {
    this.schema = schema;
    this.message = message;
  }
  serializeBinary() {
    return toBinary(this.schema, this.message);
  }
  toObject() {
    return this.message;
  }
}

const improbableGrpcWeb = (transport) => async (job, address, seen) => {
  const method = service.methods.find((m) => m.name === job.method);
  const client = grpc.client(
    {
      methodName: method.name,
      service: { serviceName: Probe.typeName },
      requestStream: job.method === "ClientStream" || job.method === "Bidi",
      responseStream: job.method === "ServerStream" || job.method === "Bidi",
      requestType: ProbeMessage,
      responseType: { deserializeBinary: (b) => new ProbeMessage(ReplySchema, fromBinary(ReplySchema, b)) },
    },
    { host: address, transport },
  );
  const metadata = new grpc.Metadata();
  for (const f of job.metadata) {
    metadata.append(f.name, fieldValue(f));
  }
  if (job.timeout_ms) {
    metadata.set("grpc-timeout", `${job.timeout_ms}m`); // the client has no option for it
  }
  await new Promise((resolve) => {
    let sent = 0;
    const send = () => client.send(new ProbeMessage(RequestSchema, request(job, sent++)));
    client.onHeaders((h) => h.forEach((name, values) => collect(seen.header, values.map((v) => [name, v]))));
    client.onMessage((reply) => {
      took(seen, reply.message);
      if (seen.replies.length === job.cancel_after) {
        client.close(); // onEnd is not called then
        seen.code = Code.Canceled;
        seen.cancelled = true;
        resolve();
      } else if (job.ping_pong && sent < job.requests.length) {
        send();
      } else if (job.ping_pong && seen.replies.length === job.requests.length) {
        client.finishSend();
      }
    });
    client.onEnd((code, message, trailers) => {
      seen.code = code;
      seen.message = message;
      trailers.forEach((name, values) => collect(seen.trailer, values.map((v) => [name, v])));
      seen.details_bin = seen.trailer["grpc-status-details-bin"]?.[0];
      resolve();
    });
    client.start(metadata);
    if (job.ping_pong) {
      send();
      return;
    }
    while (sent < job.requests.length) {
      send();
    }
    client.finishSend();
  });
};

// --- what both share ------------------------------------------------------

function request(job, sequence) {
  const { text = "", bytes = 0 } = job.requests[sequence];
  const payload = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) {
    payload[i] = i * 31 + 7;
  }
  return create(RequestSchema, { sequence: BigInt(sequence), text, payload });
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
      reply.metadata.map((f) => [
        f.name,
        f.values.map((v) => (f.name.endsWith("-bin") ? base64(v) : new TextDecoder().decode(v))),
      ]),
    );
  }
}

// collect adds entries to a map of lists. Browsers join the values of one name.
function collect(into, entries) {
  for (const [name, value] of entries) {
    for (const v of value.split(",")) {
      into[name] ??= [];
      into[name].push(v.trim().replace(name.endsWith("-bin") ? /=+$/ : "", ""));
    }
  }
}

function fieldValue(f) {
  return f.bytes ?? f.value;
}

function base64(bytes) {
  return btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join("")).replace(/=+$/, "");
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (b) => b.toString(16).padStart(2, "0")).join("");
}
