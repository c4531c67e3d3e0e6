// Package webhook answers the API server's question what a new pod gets.
//
// Package inject decides. This package carries the question and the answer:
//
//   - review.go answers an AdmissionReview
//   - handler.go takes it out of an HTTP request, with bounds
//   - memory.go bounds the memory of all reviews
//   - server.go has the two listeners, and their end without a lost request
//   - health.go has /livez, /readyz and /metrics
//   - file.go loads certificates again when their files change
//
// A [Server] starts three goroutines: one for each listener, which end in
// [Server.Run], and those that net/http starts for connections, which end with them.
package webhook
