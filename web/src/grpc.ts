// What gRPC puts into HTTP/2: header fields, messages' frames, the status (gRPC PROTOCOL-HTTP2).

import type { DescMethod } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { joined, octets } from "./h2/bytes.js";
import type { Header } from "./h2/index.js";
import { AnySchema, BinaryReader, base64Decode, Code, DurationSchema, EmptySchema, fault, fromBinary } from "./peers.js";

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

/** Throws unless a header block begins a response: the error that it tells, or that it isn't gRPC's. */
export function checkHeader(header: Headers, status: string | undefined) {
  const type = header.get("content-type");
  if (header.has("grpc-status")) {
    checkStatus(header);
  } else if (status !== "200" || !/^application\/grpc($|;|\+proto)/.test(`${type}`)) {
    // gRPC http-grpc-status-mapping
    const codes: Record<string, number> = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 431: 13, 502: 14, 503: 14, 504: 14 };
    throw fault(codes[`${status}`] ?? Code.Unknown, `no gRPC response: HTTP ${status}, content-type ${type}`, header);
  }
}

/** Throws the error that trailers tell. */
export function checkStatus(trailer: Headers, header?: Headers) {
  const status = trailer.get("grpc-status") ?? header?.get("grpc-status");
  if (status === "0") {
    return;
  }
  const known = /^(\d|1[0-6])$/.test(`${status}`);
  let message = trailer.get("grpc-message") ?? "";
  try {
    message = decodeURIComponent(message);
  } catch {
    // It stays as it is.
  }
  const error = fault(
    known ? Number(status) : Code.Internal,
    known ? message : `the response has grpc-status ${status}: ${message}`,
    trailer,
  );
  header?.forEach((value, name) => {
    error.metadata.append(name, value);
  });
  try {
    // google.rpc.Status has them in field 3.
    for (const { no, data } of fromBinary(EmptySchema, base64Decode(trailer.get("grpc-status-details-bin") ?? "")).$unknown ?? []) {
      if (no === 3) {
        const { typeUrl, value } = fromBinary(AnySchema, new BinaryReader(data).bytes());
        error.details.push({ type: typeUrl.replace(/.*\//, ""), value });
      }
    }
  } catch {
    // Malformed details don't replace the status.
  }
  throw error;
}

/**
 * How many milliseconds to wait before a call is sent again that culvert has
 * ended before a backend had it; undefined for other errors.
 */
export function retryDelay(error: ConnectError): number | undefined {
  let delay = 0;
  let unsent = false;
  for (const { type, value } of error.details as { type?: string; value: Uint8Array<ArrayBuffer> }[]) {
    if (type === "google.rpc.ErrorInfo") {
      // domain is field 2, metadata is field 3.
      const info = new TextDecoder().decode(value);
      unsent = info.includes("\x12\x07culvert") && info.includes("\n\x04sent\x12\x02no");
    }
    if (type === "google.rpc.RetryInfo") {
      // retry_delay is field 1.
      try {
        const { seconds, nanos } = fromBinary(DurationSchema, value.subarray(2));
        delay = Number(seconds) * 1e3 + nanos / 1e6;
      } catch {
        // A malformed detail is no hint.
      }
    }
  }
  return unsent ? delay : undefined;
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
    throw fault(Code.ResourceExhausted, `a message of ${size} bytes or more is over the limit of ${limit} (${option})`);
  }
}

/** The bytes that a stream for (de)compression makes of bytes, up to limit. */
export async function convert(
  bytes: Uint8Array,
  { writable, readable }: CompressionStream | DecompressionStream,
  limit: number,
): Promise<Uint8Array> {
  const writer = writable.getWriter();
  // The reader tells what fails.
  writer.write(bytes as Uint8Array<ArrayBuffer>).catch(() => {});
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
