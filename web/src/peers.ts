// Everything that is used of the peers at run time, to keep bundles small: each file that imports a peer adds an import to
// the bundle. Codes are numbers here, because connect-es's enum is an object with all their names.

import { ConnectError, createContextValues } from "@connectrpc/connect";

export { create, fromBinary, toBinary } from "@bufbuild/protobuf";
export { DurationSchema } from "@bufbuild/protobuf/wkt";
// These are marked as private. test/private.test.ts tells if they change.
export { codeFromHttpStatus, findTrailerError } from "@connectrpc/connect/protocol-grpc";

/** gRPC's status codes. */
// biome-ignore lint/suspicious/noConstEnum: all that use it are compiled with it
export const enum Code {
  Canceled = 1,
  Unknown = 2,
  DeadlineExceeded = 4,
  PermissionDenied = 7,
  ResourceExhausted = 8,
  Unimplemented = 12,
  Internal = 13,
  Unavailable = 14,
  Unauthenticated = 16,
}

export { createContextValues };

/** Makes an error. */
export const fault = (code: number, message: string, metadata?: HeadersInit) => new ConnectError(message, code, metadata);

/** Makes an error of anything that was thrown. */
export const faultOf = (e: unknown, code?: number) => ConnectError.from(e, code);

/** Makes the error of a call whose deadline has passed. */
export const late = () => fault(Code.DeadlineExceeded, "the deadline has passed");
