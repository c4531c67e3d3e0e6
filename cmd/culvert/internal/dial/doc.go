// Package dial is a plaintext port on this machine that leads to an edge: for gRPC clients in
// any language, from networks that break HTTP/2.
//
// The port is a bridge's. Its backend is the edge, with connections of package client. So calls
// of all local connections share as many connections to the edge as its limits of streams need,
// and a local connection stays when one to the edge is lost.
//
// newBridge (dial.go) gives the bridge client.Dialer.Dial. The bridge's package pool calls it
// for each connection, again after a loss, and client/pace.go says when an attempt may begin.
package dial
