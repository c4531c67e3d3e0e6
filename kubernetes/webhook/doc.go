// Package webhook answers the API server's question what a new pod gets.
//
// Package inject decides. This package carries the question and the answer:
//
//   - review.go answers an AdmissionReview
//   - handler.go takes it out of an HTTP request, with bounds
//   - connections.go bounds connections and requests
//   - memory.go bounds the memory of all reviews
//   - server.go has the two listeners, and their end without a lost request
//   - health.go has /livez, /readyz and /metrics
//   - file.go loads certificates again when their files change
//
// A [Server] starts two goroutines, one for each listener. [Server.Run] waits for both.
// net/http starts those of the connections, which end with them.
package webhook
