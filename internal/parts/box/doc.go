// Package box has a programmable box for tests: the inspecting proxy of a company's network,
// which breaks connections, TLS, HTTP and WebSockets in the ways that real ones do.
//
// Clients reach it by CONNECT (Box.Proxy), or in the edge's place (Options.Edge). It decrypts
// TLS with certificates of its own CA, and sends each request on over a connection of its
// own. With an Options that sets only where it listens it breaks nothing but HTTP/2, which it
// doesn't speak unless Options.HTTP2 is set.
//
//   - box.go: options, start and end.
//   - connect.go: CONNECT, TLS and its certificates.
//   - request.go: what happens to a request and its answer.
//   - upgrade.go: what happens to a WebSocket.
//   - conn.go: what happens to the bytes of a connection, whatever they are.
//
// It works in a bubble of package synctest, if Options.Listener and Options.Dial do.
package box
