// What gRPC puts into HTTP/2: header fields, messages' frames, the status (gRPC PROTOCOL-HTTP2).

import type { DescMethod } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { joined, octets, text } from "./h2/bytes.js";
import type { Header } from "./h2/index.js";
import { Code, codeFromHttpStatus, DurationSchema, fault, findTrailerError, fromBinary } from "./peers.js";

/**
 * The header block of a request.
 *
 * @param url is the base URL, with a slash at its end.
 * @param timeoutMs is the time that is left, in whole milliseconds; 0 without a deadline.
 */
export function requestFields(url: URL, method: DescMethod, metadata: Headers, timeoutMs: number, compress: boolean | undefined): Header[] {
  const header = new Headers(metadata);
  header.set("content-type", "application/grpc+proto");
  header.set("te", "trailers");
  if (timeoutMs) {
    // At most eight digits.
    header.set("grpc-timeout", timeoutMs < 1e8 ? `${timeoutMs}m` : `${Math.min(99999999, Math.ceil(timeoutMs / 1000))}S`);
  }
  if (compress) {
    header.set("grpc-encoding", "gzip");
  }
  if (globalThis.DecompressionStream) {
    header.set("grpc-accept-encoding", "gzip");
  }
  const fields: Header[] = [
    [":method", "POST"],
    [":scheme", url.protocol.slice(0, -1)],
    [":path", `${url.pathname}${method.parent.typeName}/${method.name}`],
    [":authority", url.host],
  ];
  header.forEach((value, name) => {
    // HTTP/2 has no such fields (RFC 9113, section 8.2.2).
    if (!/^((proxy-)?connection|host|keep-alive|transfer-encoding|upgrade|content-length)$/.test(name)) {
      // Headers joins the values of a name. grpc-go takes binary ones only apart.
      for (const part of name.endsWith("-bin") ? value.split(/, */) : [value]) {
        fields.push([name, part]);
      }
    }
  });
  return fields;
}

/** Adds the fields of a header block, without the pseudo-header fields. */
export function addFields(target: Headers, fields: Header[]) {
  for (const [name, value] of fields) {
    if (name[0] !== ":") {
      target.append(name, value);
    }
  }
}

/** Throws unless a header block begins a gRPC response: the error of a response that is only trailers, or that it isn't gRPC. */
export function checkHeader(header: Headers, status: string | undefined) {
  const type = header.get("content-type");
  if (header.has("grpc-status")) {
    checkStatus(header);
  } else if (status !== "200" || !/^application\/grpc($|;|\+proto)/.test(`${type}`)) {
    throw fault(codeFromHttpStatus(Number(status)), `no gRPC response: HTTP ${status}, content-type ${type}`, header);
  }
}

/** Throws the error in trailers, unless the status is OK. The error's metadata has the fields of both. */
export function checkStatus(trailer: Headers, header?: Headers) {
  const status = trailer.get("grpc-status") ?? header?.get("grpc-status");
  if (status === "0") {
    return;
  }
  // A code that gRPC doesn't have is UNKNOWN. culvert tells clients of gRPC-Web and Connect the same.
  if (Number(status) > 16) {
    trailer.set("x-grpc-status-original", status as string);
    trailer.set("grpc-status", "2");
  }
  let error: ConnectError | undefined;
  try {
    error = findTrailerError(trailer);
  } catch {
    // A message or details that can't be decoded don't replace the code.
  }
  error ??= fault(
    Number(status) || Code.Internal,
    `grpc-status ${status ?? "is missing: does a proxy drop trailers?"} ${trailer.get("grpc-message") ?? ""}`,
    trailer,
  );
  for (const [name, value] of header ?? []) {
    error.metadata.append(name, value);
  }
  throw error;
}

/**
 * How many milliseconds to wait before a call is sent again that culvert has
 * ended before a backend had it; Infinity for other errors.
 */
export function retryDelay(error: ConnectError): number {
  let unsent = false;
  let hint = new Uint8Array();
  for (const { type, value } of error.details as { type?: string; value: Uint8Array<ArrayBuffer> }[]) {
    if (type === "google.rpc.ErrorInfo") {
      // domain is field 2, metadata is field 3.
      const info = text(value);
      unsent = info.includes("\x12\x07culvert") && info.includes("\n\x04sent\x12\x02no");
    }
    if (type === "google.rpc.RetryInfo") {
      hint = value.subarray(2); // retry_delay, which is field 1
    }
  }
  try {
    const { seconds, nanos } = fromBinary(DurationSchema, hint);
    return unsent ? Number(seconds) * 1e3 + nanos / 1e6 : Infinity;
  } catch {
    return Infinity; // a malformed hint doesn't replace the error
  }
}

/** A message with its prefix: a flag that is 1 if it is compressed, and the length. */
export function frame(message: Uint8Array, flag: number): Uint8Array {
  const framed = new Uint8Array(5 + message.length);
  framed.set([flag, ...octets(message.length)]);
  framed.set(message, 5);
  return framed;
}

/** Throws if a message is too long. option is the one with the limit. */
export function checkSize(size: number, limit: number, option: string) {
  if (size > limit) {
    throw fault(Code.ResourceExhausted, `a message has over ${limit} bytes (${option})`);
  }
}

/** Compresses or decompresses bytes. Throws if the result is over the limit, in bytes. */
export async function convert(
  bytes: Uint8Array,
  { writable, readable }: CompressionStream | DecompressionStream,
  limit: number,
): Promise<Uint8Array> {
  const writer = writable.getWriter();
  // In pieces, since a browser decompresses all of a piece, however much that gives. The reader tells what fails.
  for (let at = 0; at < bytes.length; at += 16384) {
    writer.write(bytes.subarray(at, at + 16384) as Uint8Array<ArrayBuffer>).catch(() => {});
  }
  writer.close().catch(() => {});
  const reader = readable.getReader();
  const result = joined();
  for (;;) {
    const { value } = await reader.read();
    if (!value) {
      return result.take();
    }
    result.add(value);
    checkSize(result.size(), limit, "readMaxBytes");
  }
}
