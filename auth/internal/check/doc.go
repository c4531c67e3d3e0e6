// Package check asks an external service whether a call is permitted: external
// authorization. It knows no listener, no route and no backend: the caller fills a
// [Request], and applies the [Answer] to its call.
//
// A [Checker] asks in one of two forms:
//
//   - [NewGRPC]: envoy.service.auth.v3.Authorization/Check, as Envoy's filter ext_authz calls it.
//   - [NewHTTP]: forward-auth, an HTTP request without a body whose status is the answer.
//
// Both have one time-out, one bound on concurrent questions, one set of rules for what an
// answer may change, and one cache. Read on in this order:
//
//   - request.go, answer.go, refusal.go: what goes in and what comes out.
//   - options.go: what both forms have in common.
//   - checker.go: the way of a question, with its slot, its time-out and fail-open, and what a Checker counts.
//   - cache.go, key.go, flight.go: answers that are known, and questions that are shared.
//   - edits.go, text.go, secrets.go: the rules for names, values and texts of an answer.
//   - grpc.go, grpc_request.go, grpc_answer.go: the first form.
//   - http.go, http_request.go, http_answer.go: the second.
//
// # Unusable answers
//
// A service that answers with a reserved name, an illegal value or too much isn't asked to
// be believed in part: the whole answer is unusable, and the call fails as one that nobody
// could judge ([Unavailable]), with the cause for the log. Dropping the name instead would
// let a call pass without a change that the service counts on, such as the removal of a
// header. Refusing with PERMISSION_DENIED would tell the client that the service decided
// against it, and would hide a fault of the operator's own service in the statistics of
// refusals. For the same reason fail-open doesn't cover unusable answers: it lets calls
// pass when nobody answered.
//
// # Goroutines
//
// Without a cache, a question runs in its caller's goroutine. With a cache, callers with the
// same key share a question, which runs in a goroutine of the Checker: it ends with the
// answer, at its time-out, when its last caller has gone, or in [Checker.Close], which waits
// for it. Besides these, grpc-go and net/http have the goroutines of their connections, which
// Close ends too.
package check
