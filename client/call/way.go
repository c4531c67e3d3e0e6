package call

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client"
)

// The bounds of what a server may send.
const (
	maxMessageBytes = 64 << 20 // of a message
	maxHeaderBytes  = 64 << 10 // of the header, and of the trailers
	maxErrorBytes   = 1 << 20  // of an error's JSON
)

// The protocols.
const (
	viaAuto        = "auto"
	viaGRPC        = "grpc"
	viaGRPCWeb     = "grpc-web"
	viaGRPCWebText = "grpc-web-text"
	viaConnect     = "connect"
	viaConnectJSON = "connect-json"
	viaWebSocket   = "websocket"
	viaH2TS        = "h2ts"
	viaMessageJSON = "message-json"
	viaSSE         = "sse"
)

// Vias returns the names of the protocols, "auto" first.
func Vias() []string {
	return []string{viaAuto, viaGRPC, viaGRPCWeb, viaGRPCWebText, viaConnect, viaConnectJSON, viaWebSocket, viaH2TS, viaMessageJSON, viaSSE}
}

// inJSON reports whether messages cross as JSON.
func inJSON(via string) bool {
	return slices.Contains([]string{viaConnectJSON, viaMessageJSON, viaSSE}, via)
}

// bare reports whether the URL is that of a route for messages.
func bare(via string) bool { return via == viaMessageJSON || via == viaSSE }

// A way opens calls by one protocol.
type way interface {
	// open begins a call. Its context is the call's.
	open(ctx context.Context, q *request) (stream, error)

	// close frees the connections, after the last call.
	close()
}

// A request is what a call asks for.
type request struct {
	path     string      // "/pkg.Service/Method"
	metadata metadata.MD // raw values

	// single means that the request is exactly one message: a way may send it whole.
	single bool
	// streams means that the method streams in at least one direction.
	streams bool

	page *page // that makes the call; nil: none
}

// A stream is a call on the wire. One goroutine may send while another one receives.
type stream interface {
	// send sends a message. io.EOF means that the call has ended: recv says how.
	send(message []byte) error

	// closeSend half-closes.
	closeSend() error

	// header waits for the header of the answer.
	header() (metadata.MD, error)

	// recv returns the next message. It returns io.EOF once end has the call's end, and another
	// error if the call has no such end, since the wire broke. It is called after header.
	recv() ([]byte, error)

	// end returns the status and the trailers.
	end() (*status.Status, metadata.MD)

	// close ends a call that hasn't ended, and tells the server. It waits for the stream's
	// goroutines.
	close()
}

func (c *caller) newWay(ctx context.Context, via string) (way, error) {
	switch via {
	case viaGRPC, viaH2TS:
		return c.newNative(ctx, via)
	case viaGRPCWeb, viaGRPCWebText:
		return &grpcWeb{web: c.newWeb(), text: via == viaGRPCWebText}, nil
	case viaConnect, viaConnectJSON:
		return &connect{web: c.newWeb(), json: via == viaConnectJSON}, nil
	case viaWebSocket:
		return &webSocket{c}, nil
	case viaMessageJSON:
		return &messageSocket{c}, nil
	case viaSSE:
		return &events{web: c.newWeb()}, nil
	}
	return nil, fmt.Errorf("BUG: no way %q", via)
}

// automatic finds the way that the target can be reached by, as package client does.
func (c *caller) automatic(ctx context.Context) (way, string, error) {
	if c.page != nil { // a page can't speak native gRPC
		w, err := c.newWay(ctx, viaGRPCWeb)
		return w, viaGRPCWeb, err
	}
	d, err := client.NewDialer(c.cfg.URL, client.WithTLS(c.net.TLS), client.WithConnectTo(c.cfg.ConnectTo), client.WithProxy(c.cfg.Proxy))
	if err != nil {
		return nil, "", err
	}
	defer d.Close()
	conn, err := d.Dial(ctx)
	if err != nil {
		return nil, "", because(ctx, err)
	}
	// Not the call's: the Dialer would look for a better way, and leave this connection for it.
	found := d.Status().Way
	_ = conn.Close() // no call has crossed it
	via := map[client.Way]string{client.GRPC: viaGRPC, client.WebSocket: viaH2TS, client.GRPCWeb: viaGRPCWeb}[found]
	c.trace.say(note, "the way is %s", via)
	w, err := c.newWay(ctx, via)
	return w, via, err
}

// parseMethod returns the path of a method: "pkg.Service/Method" and "pkg.Service.Method" are
// both common.
func parseMethod(name string) (string, error) {
	name = strings.TrimPrefix(name, "/")
	service, method, ok := strings.Cut(name, "/")
	if !ok {
		if i := strings.LastIndexByte(name, '.'); i > 0 {
			service, method = name[:i], name[i+1:]
		}
	}
	if service == "" || method == "" || strings.ContainsAny(service+method, "/?#% \t\r\n") {
		return "", fmt.Errorf("%q is no method: write package.Service/Method", name)
	}
	return "/" + service + "/" + method, nil
}
