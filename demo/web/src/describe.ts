import { createRegistry, type DescMessage, fromBinary, type JsonValue, toJson } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { type Field, lookUp } from "./frame.ts";
import { Demo } from "./gen/demo/demopb/demo_pb.ts";
import { file_google_rpc_error_details } from "./gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "./gen/google/rpc/status_pb.ts";

/** A detail of a status: the message's short name and its content. */
export interface Detail {
  name: string;
  value: JsonValue;
}

/** How a call ended, from its trailers. */
export interface WireStatus {
  code: number;
  name: string;
  message: string;
  details: Detail[];
}

const detailTypes = createRegistry(file_google_rpc_error_details);

/** "INVALID_ARGUMENT" for 3, and so on. */
export function codeName(code: number): string {
  const name = code === 0 ? "Ok" : code === Code.Canceled ? "Cancelled" : Code[code];
  return name === undefined ? `CODE_${code}` : name.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

/** Reads grpc-status, grpc-message and the details; undefined without a status. */
export function readStatus(trailers: readonly Field[]): WireStatus | undefined {
  const code = lookUp(trailers, "grpc-status");
  if (code === undefined) {
    return undefined;
  }
  const packed = lookUp(trailers, "grpc-status-details-bin");
  return {
    code: Number(code),
    name: codeName(Number(code)),
    message: percentDecode(lookUp(trailers, "grpc-message") ?? ""),
    details: packed === undefined ? [] : unpackDetails(base64Decode(packed)),
  };
}

function unpackDetails(bytes: Uint8Array): Detail[] {
  return fromBinary(StatusSchema, bytes).details.map((any) => {
    const message = anyUnpack(any, detailTypes);
    const schema = message && detailTypes.getMessage(message.$typeName);
    const name = any.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1);
    return {
      name: name.replace("google.rpc.", ""),
      value: schema ? toJson(schema, message) : hexDump(any.value),
    };
  });
}

function percentDecode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray % stays as it is
  }
}

/** Decodes a message of one of the demo's methods for people to read. */
export function describeMessage(path: string, direction: "out" | "in", payload: Uint8Array): JsonValue {
  const method = Demo.methods.find((m) => path === `/${Demo.typeName}/${m.name}`);
  if (method === undefined) {
    return hexDump(payload);
  }
  const schema: DescMessage = direction === "out" ? method.input : method.output;
  return toJson(schema, fromBinary(schema, payload), { alwaysEmitImplicit: true });
}

/** Lines of 16 bytes: the offset, the bytes, the text. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const line = [...bytes.subarray(at, at + 16)];
    const hex = line.map((b) => b.toString(16).padStart(2, "0")).join(" ");
    const text = line.map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : "·")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join("\n");
}
