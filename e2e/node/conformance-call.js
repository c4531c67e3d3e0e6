// Makes the calls of connectrpc.com/conformance with @culvert/web, in Node or in a page.

import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { AnySchema, anyUnpack, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createCulvertTransport } from "@culvert/web";

const gzip = 2; // of the suite's enum Compression
const fullDuplex = 5; // of its enum StreamType

/**
 * Returns the function that answers a ClientCompatRequest with a ClientCompatResponse, both
 * as bytes. The descriptors are a FileDescriptorSet with the suite's files.
 *
 * @param webSocket is the platform's if undefined
 */
export function answerer(descriptors, webSocket) {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  const schema = (name) => registry.getMessage(`connectrpc.conformance.v1.${name}`);
  const transports = new Map(); // connections are kept, as in a program
  const transportFor = (request) => {
    const options = {
      baseUrl: `http://${request.host}:${request.port}`,
      gzip: request.compression === gzip,
      readMaxBytes: request.messageReceiveLimit || undefined,
      webSocket,
    };
    const key = JSON.stringify(options);
    if (!transports.has(key)) {
      transports.set(key, createCulvertTransport(options));
    }
    return transports.get(key);
  };
  return async (bytes) => {
    const request = fromBinary(schema("ClientCompatRequest"), bytes);
    let result;
    try {
      result = { case: "response", value: await call(request, registry, transportFor(request)) };
    } catch (e) {
      result = { case: "error", value: { message: String(e?.stack ?? e) } };
    }
    return toBinary(schema("ClientCompatResponse"), create(schema("ClientCompatResponse"), { testName: request.testName, result }));
  };
}

/** Makes the call and returns the ClientResponseResult. Throws if the request asks for what this client doesn't do. */
async function call(request, registry, transport) {
  const service = registry.getService(request.service);
  const method = service?.methods.find((m) => m.name === request.method);
  if (!method) {
    throw new Error(`no method ${request.method} of ${request.service}`);
  }
  const noPayload = create(registry.getMessage("connectrpc.conformance.v1.ConformancePayload"));
  const result = { responseHeaders: [], payloads: [], responseTrailers: [], error: undefined };
  const abort = new AbortController();
  const timing =
    request.cancel && (request.cancel.cancelTiming.case ? request.cancel.cancelTiming : { case: "afterCloseSendMs", value: 0 });
  const cancelAfterClose = () => {
    if (timing?.case === "afterCloseSendMs") {
      setTimeout(() => abort.abort(), timing.value);
    }
  };

  let told = () => {};
  let over = false;
  async function* requests() {
    for (const [i, any] of request.requestMessages.entries()) {
      await sleep(request.requestDelayMs);
      yield anyUnpack(any, registry);
      while (request.streamType === fullDuplex && result.payloads.length <= i && !over) {
        await new Promise((resolve) => {
          told = resolve;
        });
      }
    }
    if (timing?.case === "beforeCloseSend") {
      abort.abort();
    }
    cancelAfterClose();
  }
  const took = (message) => {
    result.payloads.push(message.payload ?? noPayload);
    if (timing?.case === "afterNumResponses" && result.payloads.length === timing.value) {
      abort.abort();
    }
    told();
  };

  const options = {
    signal: abort.signal,
    timeoutMs: request.timeoutMs,
    headers: request.requestHeaders.flatMap(({ name, value }) => value.map((v) => [name, v])),
    onHeader: (h) => result.responseHeaders.push(...fields(h)),
    onTrailer: (t) => result.responseTrailers.push(...fields(t)),
  };
  const make = createClient(service, transport)[method.localName];
  try {
    switch (method.methodKind) {
      case "unary":
        await sleep(request.requestDelayMs);
        cancelAfterClose();
        took(await make(anyUnpack(request.requestMessages[0], registry), options));
        break;
      case "server_streaming":
        await sleep(request.requestDelayMs);
        cancelAfterClose();
        for await (const message of make(anyUnpack(request.requestMessages[0], registry), options)) {
          took(message);
        }
        break;
      case "client_streaming":
        took(await make(requests(), options));
        break;
      default:
        for await (const message of make(requests(), options)) {
          took(message);
        }
    }
  } catch (e) {
    if (!(e instanceof ConnectError)) {
      throw e;
    }
    // The metadata has the trailers, and the header unless that came before.
    result.responseTrailers = fields(e.metadata);
    result.error = {
      code: e.code,
      message: e.rawMessage,
      details: e.details.map(({ type, value }) => create(AnySchema, { typeUrl: `type.googleapis.com/${type}`, value })),
    };
  }
  over = true;
  told();
  return result;
}

function fields(headers) {
  return Array.from(headers, ([name, value]) => ({ name, value: [value] }));
}

function sleep(ms) {
  return ms ? new Promise((resolve) => setTimeout(resolve, ms)) : undefined;
}
