// Package certs makes the webhook's serving certificate, and has the API server trust
// it.
//
// cert-manager's library keeps a CA in a Secret, replaces it long before its end, and
// signs a certificate for each replica, which stays in memory. Two replicas agree
// through the Secret: the API server lets only one of two simultaneous writes pass.
// This package adds what the library leaves to others:
//
//   - bundle.go adds a CA to a caBundle, which keeps the earlier ones
//   - publish.go writes that into the webhook's configuration
//   - authority.go keeps a certificate back until the API servers know its CA
//   - certs.go joins these
//   - connect.go finds the API server
//
// [Source.Run] starts one goroutine, publish, and the library's own; it waits for all
// of them.
package certs
