// Package gate identifies the peer of a connection, and decides whether a page may
// call: it interprets PROXY headers, the headers of trusted proxies, certificates and
// the headers of browsers. It knows no calls, no listeners and no connections: it
// gets headers, bytes and lists of networks, and returns their meaning. It starts
// nothing, and waits only for the reader of a PROXY header.
//
//   - authority.go: the host of a request.
//   - networks.go: addresses among networks.
//   - proxyheader.go: the client that a PROXY header names.
//   - forwarded.go: the client that a trusted proxy names, and the forwarding headers
//     for the backend.
//   - client_names.go: the names in a client's verified certificate.
//   - origin.go, origin_pattern.go: the one function that judges pages, and its list
//     of allowed origins.
//   - fields.go: lists, types and lengths in headers.
//   - cors.go: the headers that tell a browser of its access.
//
// Nothing here sends a refusal: malformed input is an error, a page that may not call
// gets a fault, and the owner answers and reports both (bridge/request.go).
package gate
