// Package gate is who is at the other end of a connection, and whether a page may
// call: what PROXY headers, trusted proxies, certificates and browsers say, and
// what of it counts. It knows no calls, no listeners and no connections: it is
// given headers, bytes and lists of networks, and returns what they mean. It
// starts nothing, and waits for nothing but the reader of a PROXY header.
//
//   - authority.go: the host that a request is for.
//   - networks.go: addresses among networks.
//   - proxyheader.go: the client that a PROXY header names.
//   - forwarded.go: the client that a trusted proxy names, and what the backend
//     is told of the way.
//   - client_names.go: the names in a client's verified certificate.
//   - origin.go, origin_pattern.go: the one function that judges pages, and the
//     entries that it goes by.
//   - cors.go: what a browser is told of the verdict.
//
// Nothing here refuses anybody: what can't be read is an error, a page that may
// not call a Denial, and the owner answers and tells of both.
package gate
