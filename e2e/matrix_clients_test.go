package e2e

import (
	"slices"
	"strings"
)

// A publishedClient is one row of what is tested: a package with one of its
// transports, on a platform.
type publishedClient struct {
	name    string // what jobs say; the first word is the platform
	title   string // what the published table says
	pkg     string // the package whose version counts
	carrier string // what is on the wire
}

// way returns what is between the client and culvert: tls, caddy, far, squid, or nothing.
func (c publishedClient) way() string {
	for _, way := range []string{"tls", "caddy", "far", "squid"} {
		if strings.Contains(c.name+" ", " "+way+" ") && c.platform() != "go" { // which knows its way
			return way
		}
	}
	return ""
}

func (c publishedClient) platform() string {
	platform, _, _ := strings.Cut(c.name, " ")
	return platform
}

// ownPackage is in web/, and is tested as it is there.
const ownPackage = "@culvert/web"

const (
	nativeGRPC = "gRPC over HTTP/2 (h2c)"
	tunnel     = "gRPC over HTTP/2 in a WebSocket (`h2ts`)"
	farTunnel  = "`h2ts` through tinyproxy and nginx"
	squidWay   = "`h2ts` through Squid and nginx"
	tunnelTLS  = "`h2ts` through nginx"
	caddyTLS   = "`h2ts` through Caddy"
	webHTTP1   = "gRPC-Web, HTTP/1.1"
	webH2C     = "gRPC-Web, HTTP/2 (h2c)"
	connHTTP1  = "Connect, HTTP/1.1"
	connH2C    = "Connect, HTTP/2 (h2c)"
	connTLS    = "Connect, HTTP/2 to an nginx that terminates TLS"
	webText    = "gRPC-Web-text, HTTP/1.1"
	websockets = "WebSocket (`grpc-websockets`)"
	webTLS     = "gRPC-Web, HTTP/2 to an nginx that terminates TLS"
	socketsTLS = "WebSocket to an nginx that terminates TLS"
)

// clients are the published clients that people use. To add one: its file
// node/client-NAME.js, its line in node/clients-browser.js or clients-node.js, and
// its line here; then write the page anew.
var clients = []publishedClient{
	{"go native", "grpc-go", "google.golang.org/grpc", nativeGRPC},
	{"go h2ts", "grpc-go, `h2ts`", "google.golang.org/grpc", tunnel},
	{"go far", "grpc-go, `h2ts`, proxies", "google.golang.org/grpc", farTunnel},

	{"node grpc-js", "grpc-js", "@grpc/grpc-js", nativeGRPC},
	{"node connect-node grpc", "connect-node, gRPC", "@connectrpc/connect-node", nativeGRPC},
	{"node connect-node grpc-web h2c", "connect-node, HTTP/2", "@connectrpc/connect-node", webH2C},
	{"node connect-node grpc-web http1", "connect-node, HTTP/1.1", "@connectrpc/connect-node", webHTTP1},
	{"node connect-node connect h2c", "connect-node, Connect, HTTP/2", "@connectrpc/connect-node", connH2C},
	{"node connect-node connect http1", "connect-node, Connect, HTTP/1.1", "@connectrpc/connect-node", connHTTP1},
	{"node connect-web", "connect-web", "@connectrpc/connect-web", webHTTP1},
	{"node connect-web connect", "connect-web, Connect", "@connectrpc/connect-web", connHTTP1},
	{"node culvert-web", "`@culvert/web`", ownPackage, tunnel},
	{"node far culvert-web", "`@culvert/web`, tinyproxy", ownPackage, farTunnel},
	{"node squid culvert-web", "`@culvert/web`, Squid", ownPackage, squidWay},
	{"node improbable http", "improbable, node-http", "@improbable-eng/grpc-web-node-http-transport", webHTTP1},
	{"node improbable fetch", "improbable, fetch", "@improbable-eng/grpc-web", webHTTP1},
	{"node improbable websocket", "improbable, WebSocket", "@improbable-eng/grpc-web", websockets},
	{"node nice fetch", "nice-grpc-web, fetch", "nice-grpc-web", webHTTP1},
	{"node nice websocket", "nice-grpc-web, WebSocket", "nice-grpc-web", websockets},
	{"node protobuf-ts binary", "protobuf-ts, binary", "@protobuf-ts/grpcweb-transport", webHTTP1},
	{"node protobuf-ts text", "protobuf-ts, text", "@protobuf-ts/grpcweb-transport", webText},

	{"chromium culvert-web", "`@culvert/web`", ownPackage, tunnel},
	{"chromium tls culvert-web", "`@culvert/web`, TLS", ownPackage, tunnelTLS},
	{"chromium caddy culvert-web", "`@culvert/web`, Caddy", ownPackage, caddyTLS},
	{"chromium far culvert-web", "`@culvert/web`, tinyproxy", ownPackage, farTunnel},
	{"chromium squid culvert-web", "`@culvert/web`, Squid", ownPackage, squidWay},
	{"chromium grpc-web binary", "grpc-web, binary", "grpc-web", webHTTP1},
	{"chromium grpc-web text", "grpc-web, text", "grpc-web", webText},
	{"chromium connect-web", "connect-web", "@connectrpc/connect-web", webHTTP1},
	{"chromium connect-web connect", "connect-web, Connect", "@connectrpc/connect-web", connHTTP1},
	{"chromium improbable fetch", "improbable, fetch", "@improbable-eng/grpc-web", webHTTP1},
	{"chromium improbable xhr", "improbable, XHR", "@improbable-eng/grpc-web", webHTTP1},
	{"chromium improbable websocket", "improbable, WebSocket", "@improbable-eng/grpc-web", websockets},
	{"chromium nice fetch", "nice-grpc-web, fetch", "nice-grpc-web", webHTTP1},
	{"chromium nice websocket", "nice-grpc-web, WebSocket", "nice-grpc-web", websockets},
	{"chromium protobuf-ts binary", "protobuf-ts, binary", "@protobuf-ts/grpcweb-transport", webHTTP1},
	{"chromium protobuf-ts text", "protobuf-ts, text", "@protobuf-ts/grpcweb-transport", webText},
	{"chromium tls connect-web", "connect-web, TLS", "@connectrpc/connect-web", webTLS},
	{"chromium tls connect-web connect", "connect-web, Connect, TLS", "@connectrpc/connect-web", connTLS},
	{"chromium tls nice fetch", "nice-grpc-web, fetch, TLS", "nice-grpc-web", webTLS},
	{"chromium tls improbable websocket", "improbable, WebSocket, TLS", "@improbable-eng/grpc-web", socketsTLS},
}

// A limitation is what some clients can't do, whoever answers them, or what stands
// before them can't. Its cells
// are run all the same, and have to fail: a reason that is no longer true goes.
type limitation struct {
	clients   []string // the ends of their names
	scenarios []string
	reason    string
	// maybe: what is seen depends on the machine, by its speed or its packages.
	maybe bool
}

// What needs a request stream.
var requestStreams = []string{
	"a stream of no requests", "an error while the client sends",
	"client stream", "bidi, each request after a reply", "replies after the half-close", "replies before any request",
	"many requests in order", "many both ways at once", "the client cancels while it sends",
}

var limitations = []limitation{
	{
		clients: []string{"connect-web", "connect-web connect"}, scenarios: requestStreams,
		reason: "The client can't stream requests, and says so.",
	},
	{
		clients: []string{"grpc-web binary", "grpc-web text", "protobuf-ts binary", "protobuf-ts text"}, scenarios: requestStreams,
		reason: "The client can't stream requests.",
	},
	{
		clients: []string{"improbable http", "improbable fetch", "improbable xhr"}, scenarios: requestStreams,
		reason: "The client's HTTP transports end the request with its first message, or send each message as a request of its own.",
	},
	{
		clients: []string{"chromium nice fetch"}, scenarios: requestStreams,
		reason: "Chromium streams a request body only over HTTP/2, and speaks HTTP/2 only over TLS.",
	},
	{
		clients:   []string{"chromium tls nice fetch"},
		scenarios: []string{"bidi, each request after a reply", "replies before any request", "the client cancels while it sends"},
		reason:    "Chromium's fetch returns no part of a response before the request has ended.",
	},
	{
		clients: []string{"node nice fetch"}, scenarios: []string{"replies before any request"},
		reason: "Node's fetch sends nothing before it has part of the request body.",
	},
	{
		clients: []string{"grpc-web binary"}, scenarios: []string{"the header before any message", "the client cancels"},
		reason: "In binary mode the client shows nothing of a call before the call has ended.",
	},
	{
		clients: []string{"grpc-web text"}, scenarios: []string{"the header before any message"},
		reason: "The client shows the header only when the call has ended.",
	},
	{
		clients: []string{"improbable xhr"}, scenarios: []string{"the header before any message"},
		reason: "Chromium reports the header to an XMLHttpRequest only with the first byte of the body.",
	},
	{
		clients: []string{
			"connect-web", "connect-web connect", "improbable http", "improbable fetch", "improbable xhr", "improbable websocket", "nice fetch", "nice websocket",
			"grpc-web binary", "grpc-web text", "protobuf-ts binary", "protobuf-ts text",
		}, scenarios: []string{"compressed requests and replies"},
		reason: "The client doesn't compress.",
	},
	{
		clients: []string{"chromium tls connect-web", "chromium tls connect-web connect", "chromium tls nice fetch"}, scenarios: []string{"the header before any message"}, maybe: true,
		reason: "nginx 1.22 sends the header over HTTP/2 only with the first byte of the body.",
	},
	{
		clients: []string{"improbable fetch"}, scenarios: []string{"metadata with nothing in it"},
		reason: "The client fails on a header without a value.",
	},
	{
		clients: []string{"grpc-web binary", "grpc-web text"}, scenarios: []string{"trailers with several values"},
		reason: "The client keeps only the last of several trailers with the same name.",
	},
	{
		clients: []string{"protobuf-ts binary", "protobuf-ts text"}, scenarios: []string{"a status message in unicode", "a hostile status message"},
		reason: "The client shows the status message percent-encoded, as it is on the wire.",
	},
	{
		clients: []string{"node improbable websocket", "node nice websocket", "node culvert-web", "node far culvert-web", "node squid culvert-web"}, scenarios: []string{"a refused origin"},
		reason: "Outside a browser an origin is metadata, and this client doesn't send metadata in the headers of the upgrade.",
	},
	{
		clients: []string{
			"improbable http", "improbable fetch", "improbable xhr", "improbable websocket", "nice websocket",
			"grpc-web binary", "grpc-web text", "protobuf-ts binary", "protobuf-ts text",
		}, scenarios: []string{"a slow reader stops the backend"}, maybe: true,
		reason: "The client goes on reading while the application is busy. How much it buffers depends on the machine, so the tests accept either result.",
	},
}

// limited returns why a client can't do a scenario, or nil.
func limited(client string, s scenario) *limitation {
	for i, l := range limitations {
		if slices.ContainsFunc(l.clients, func(end string) bool { return strings.HasSuffix(client, " "+end) || client == end }) &&
			slices.Contains(l.scenarios, s.name) {
			return &limitations[i]
		}
	}
	return nil
}
