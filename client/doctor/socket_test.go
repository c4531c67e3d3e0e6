package doctor

import (
	"net"
	"net/http"
	"net/url"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestCloseFrame: a close frame in place of HTTP/2 is the end of the connection.
func TestCloseFrame(t *testing.T) {
	ctx := parts.Within(t, parts.Patience)
	ws, server := wstest.ServerPair(t, 1<<16, tunnel.Name, func(conn net.Conn) (*websocket.Conn, error) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "edge"}, Header: http.Header{}}
		return websocket.Open(conn, r.WithContext(ctx), websocket.Options{Subprotocol: tunnel.Name, Pool: mem.DefaultBufferPool()})
	})
	c, err := openHTTP2(ctx, socketPipe{ws.NetConn(), ws, tunnel.NewReader(ws)}, network.Target{Host: "edge", Port: "80"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	const closes, goingAway = 8, "\x03\xe9"
	server.Send(t, closes, []byte(goingAway))
	if f := c.prove(ctx); f.Result != cut {
		t.Errorf("%s: %s, want %s", f.Result, f.Evidence, cut)
	}
}
