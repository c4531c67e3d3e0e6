// What the page of the admin address says is wrong.

import auth from "../../../admin/testdata/api/auth.json" with { type: "json" };
import backends from "../../../admin/testdata/api/backends.json" with { type: "json" };
import calls from "../../../admin/testdata/api/calls.json" with { type: "json" };
import certificates from "../../../admin/testdata/api/certificates.json" with { type: "json" };
import connections from "../../../admin/testdata/api/connections.json" with { type: "json" };
import failures from "../../../admin/testdata/api/failures.json" with { type: "json" };
import limits from "../../../admin/testdata/api/limits.json" with { type: "json" };
import memory from "../../../admin/testdata/api/memory.json" with { type: "json" };
import routes from "../../../admin/testdata/api/routes.json" with { type: "json" };
import status from "../../../admin/testdata/api/status.json" with { type: "json" };
import type { Auth, Connections, Failure, Routes } from "../../page/admin/api.js";
import { findings, type Seen } from "../../page/admin/findings.js";
import { deepEqual, equal, test } from "../harness.js";

// The compiler compares the page's types with what culvert answers.
const golden: Seen & { connections: Connections; routes: Routes; auth: Auth } = {
  status,
  calls,
  backends,
  memory,
  limits,
  failures,
  certificates,
  connections,
  routes,
  auth,
};

/** What culvert answers if all is well. */
const well: Seen = {
  status: { ...status, problems: [], configuration: { ...status.configuration, rejected: [], difference: [], restart: [] } },
  calls: { ...calls, waiting: { client: 0, backend: 0, memory: 0, place: 0, answer: 7 }, calls: [] },
  backends: { ...backends, backends: [] },
  memory,
  limits: { ...limits, last: [] },
  failures: { ...failures, failures: [] },
  certificates: { ...certificates, certificates: [], problems: [] },
};

const texts = (seen: Partial<Seen>) =>
  findings({ ...well, ...seen }).map((f) => `${f.tone}: ${f.text}${f.more ? ` | ${f.more}` : ""} ${f.to}`);

test("what is wrong comes in the order of its weight", () => {
  deepEqual(texts({}), []);
  deepEqual(texts(golden), [
    "bad: culvert rejected the newest configuration 0 s ago | proxy.yaml:1: bad (and 1 more) #configuration",
    "bad: grpc.example.com: the CA refuses the order #certificates",
    "warn: The certificate for grpc.example.com expires in 10 d | /etc/culvert/tls.crt #certificates",
    "warn: 2 calls wait: no memory is free #calls?order=waiting&waits_for=memory",
    "warn: 4 calls wait: backend has no place #calls?order=waiting&waits_for=place",
    "warn: 1 call waits: backend doesn't read #calls?order=waiting&waits_for=backend",
    "warn: 3 calls wait: client doesn't read | the longest for 6 s #calls?order=waiting&waits_for=client",
    "warn: 1 failure in 5 m: culvert LIMIT_EXCEEDED | the last 0 s ago: 100 calls are running, which is the limit (limits.calls) #failures?origin=culvert&reason=LIMIT_EXCEEDED",
  ]);
});

test("problems and drains are told", () => {
  const { status } = well;
  deepEqual(texts({ status: { ...status, problems: ["a", "the newest configuration in f isn't in use: the log says why"] } }), [
    "bad: a #configuration",
    "bad: the newest configuration in f isn't in use: the log says why #configuration",
  ]);
  deepEqual(texts({ status: { ...status, problems: ["auth.api_keys.file: bad"] } }), ["bad: auth.api_keys.file: bad #identity"]);
  deepEqual(texts({ status: { ...status, drain: { state: "delayed", refuses_in: 4.2, calls: 3 } } }), [
    "warn: draining: not ready, refuses new calls in 5 s | 3 calls still run #configuration",
  ]);
  deepEqual(texts({ status: { ...status, drain: { state: "refusing", calls: 1 } } }), [
    "warn: draining: refuses new calls | 1 call still run #configuration",
  ]);
});

test("backends that fail are told, and replaced ones aren't", () => {
  const [golden] = backends.backends;
  const [address] = golden?.addresses ?? [];
  if (golden === undefined || address === undefined) {
    throw new Error("the golden file has no address");
  }
  const good = { ...address, unhealthy: false, failure: "" };
  const b = { ...golden, draining: false };
  const of = (...list: (typeof b)[]) => texts({ backends: { ...backends, backends: list } });
  deepEqual(of({ ...b, draining: true, state: "transient_failure" }, { ...b, addresses: [good] }, { ...b, addresses: [] }), []);
  deepEqual(of({ ...b, state: "transient_failure", addresses: [] }), ["bad: Backend orders can't be reached #backends"]);
  deepEqual(of(b), ["bad: Backend orders can't be reached | 10.0.0.3:9000: connection refused #backends"]);
  deepEqual(of({ ...b, addresses: [good, { ...address, address: "b:1", failure: "" }, { ...address, address: "b:2" }] }), [
    "warn: Backend orders: 2 of 3 addresses fail | b:1: its health check fails (and 1 more) #backends",
  ]);
});

test("memory that is nearly full is told", () => {
  const of = (held: number, limit: number) => texts({ memory: { ...memory, held_bytes: held, limit_bytes: limit } });
  deepEqual([of(89, 100), of(5, 0)], [[], []]);
  deepEqual(of(90, 100), ["warn: 90 % of the memory is in use | 90 B of 100 B #memory"]);
});

test("only recent failures count, and a client's own ends don't", () => {
  const [golden] = failures.failures;
  if (golden === undefined) {
    throw new Error("the golden file has no failure");
  }
  const at = (seconds: number) => new Date(Date.parse(failures.at) - 1000 * seconds).toISOString();
  const of = (...list: Failure[]) => texts({ failures: { ...failures, failures: list } });
  const upstream = { ...golden, origin: "upstream", reason: "", code: "INTERNAL", message: "", cause: "" };
  deepEqual(of({ ...golden, at: at(301) }, { ...golden, origin: "client" }), []);
  deepEqual(of({ ...golden, at: at(10) }, { ...upstream, at: at(20) }, { ...upstream, at: at(299) }), [
    "warn: 2 failures in 5 m: upstream INTERNAL | the last 20 s ago: INTERNAL #failures?origin=upstream",
    "warn: 1 failure in 5 m: culvert LIMIT_EXCEEDED | the last 10 s ago: 100 calls are running, which is the limit (limits.calls) #failures?origin=culvert&reason=LIMIT_EXCEEDED",
  ]);
  const many = (last: number) => of(...Array.from({ length: 199 }, () => upstream), { ...upstream, at: at(last) });
  equal(many(299)[0]?.slice(0, 34), "warn: at least 200 failures in 5 m");
  equal(many(301)[0]?.slice(0, 25), "warn: 199 failures in 5 m");
});

test("refusals that no failure tells of are told", () => {
  const [golden] = limits.last;
  if (golden === undefined) {
    throw new Error("the golden file has no refusal");
  }
  const real = { ...golden, report_only: false };
  const origin = { ...real, key: "web.origins", reason: "ORIGIN_REFUSED", detail: "https://evil.example" };
  const last = [golden, real, origin, origin];
  deepEqual(texts({ limits: { ...limits, last }, failures }).slice(1), [
    "warn: 2 refused in 5 m: web.origins | the last 0 s ago: 192.0.2.7:50312 https://evil.example #limits",
  ]);
  deepEqual(texts({ limits: { ...limits, last: [golden] } }), []);
});
