// Package recent keeps what has happened lately, for the admin address: what failed and what
// was refused, how the calls of each route ended, and which certificates are in use. All of it
// is bounded, whatever clients do. It is told of ends, and costs nothing on a message's way.
//
// recorder.go is told; ring.go, routes.go and certificates.go keep.
package recent
