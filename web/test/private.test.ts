// What the package uses of connect-es that is marked as private there. If one of these fails with a new version of
// connect-es, take the function's code over into src/grpc.ts, or the version out of the range of peers.

import { ConnectError } from "@connectrpc/connect";
import { codeFromHttpStatus, findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { deepEqual, equal, test } from "./harness.js";

test("codeFromHttpStatus maps HTTP statuses to codes", () => {
  deepEqual(
    [200, 400, 401, 403, 404, 429, 500, 502, 503, 504, Number.NaN].map((status) => codeFromHttpStatus(status)),
    [2, 13, 16, 7, 12, 14, 2, 14, 14, 14, 2],
  );
});

test("findTrailerError makes an error of trailers", () => {
  const find = (fields: Record<string, string>) => findTrailerError(new Headers(fields));
  equal(find({}), undefined);
  equal(find({ "grpc-status": "0" }), undefined);
  const plain = find({ "grpc-status": "5", "grpc-message": "na%C3%AFve", "x-own": "1" });
  equal(plain instanceof ConnectError, true);
  deepEqual([plain?.code, plain?.rawMessage, plain?.metadata.get("x-own"), plain?.details], [5, "naïve", "1", []]);
  equal(find({ "grpc-status": "99" })?.code, 13);
  // A google.rpc.Status with an ErrorInfo.
  const detailed = find({
    "grpc-status": "14",
    "grpc-status-details-bin":
      "CA4SFHVwc3RyZWFtIHVucmVhY2hhYmxlGksKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5FcnJvckluZm8SHwoUVVBTVFJFQU1fVU5SRUFDSEFCTEUSB2N1bHZlcnQ",
  });
  deepEqual([detailed?.code, detailed?.rawMessage], [14, "upstream unreachable"]);
  const [detail] = detailed?.details ?? [];
  equal(detail && "type" in detail && detail.type, "google.rpc.ErrorInfo");
});
