// Package ratelimit asks a service that several culverts share whether a call is within its
// limits: envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit, as Envoy's filter
// ratelimit calls it. It knows no listener, no route and no backend: the caller fills
// [Facts], and gives the client what an [Answer] or a [Refusal] has for it.
//
// Read on in this order:
//
//   - options.go, descriptor.go: what is asked, and of whom.
//   - facts.go, value.go: what a call is known by, and how that becomes a descriptor's value.
//   - limiter.go: the way of a question, with its slot and its time-out, and what a Limiter
//     counts.
//   - answer.go, header.go, refusal.go: what comes out.
//   - conn.go: the connection.
//
// # Fail-open
//
// If the service gives no usable answer in time, the call passes, unless Options.FailClosed is
// set. This is Envoy's default (failure_mode_deny is false): the service protects backends
// from too many calls, and its outage should not be an outage of the backends. Package check
// is stricter, since an authorization service decides who may call at all. An unusable answer
// is one with another code than OK and OVER_LIMIT, or one that is no RateLimitResponse.
//
// A client that can overload the service, or fill all of Options.Concurrent, passes while it
// does. culvert's own limits, which need no service, bound such a client.
//
// # What is believed of an answer
//
// overall_code decides, as in Envoy. The client gets response_headers_to_add that the caller
// of this package doesn't reserve. request_headers_to_add, raw_body, dynamic_metadata and
// quota are ignored: a service that counts calls has nothing to tell backends.
//
// # Goroutines
//
// A question runs in its caller's goroutine. grpc-go has the goroutines of its connections.
// [Limiter.Close] waits for both.
package ratelimit
