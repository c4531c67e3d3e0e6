// Package fallback hands requests that aren't calls to a web server, over HTTP/1.1. It is a
// leaf: it decides no limits and no rights. The log, metrics and package report call these
// requests "web".
//
//   - target.go: the web server's address
//   - proxy.go: the connections to it, and a request with its answer
//   - body.go: the client's body, and how long the client takes for it
//   - loop.go: requests that come back to this server
//   - websocket.go, client.go: a WebSocket, after the web server has accepted it
//   - cause.go: why there is no answer, or not a whole one
//
// # Who waits for whom
//
//	start                   owner that waits     ends when
//	carry, each direction   Proxy.Serve          either side has closed, or the context ends
//	http.Transport's own    Proxy.Close          its connection is closed
package fallback
