package doctor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/pathservice"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// socket examines HTTP/2 inside a WebSocket.
func (x *examination) socket(ctx context.Context) {
	var c *http2Conn
	f := x.try(ctx, probeSocket, callLimit, func(ctx context.Context) (f Finding) {
		c, _, f = x.openSocket(ctx)
		return f
	})
	if f.Result != works {
		return
	}
	defer c.close()
	f = x.probe(ctx, probeSocketHTTP2, 2*patience, c.prove)
	if f.Result != works {
		return
	}
	f = x.probe(ctx, probeSocketBidi, callLimit, func(ctx context.Context) Finding { return x.callBy(ctx, c, pathservice.Echo, true, bidi) })
	if f.Result == works {
		x.probe(ctx, probeService, callLimit, func(ctx context.Context) Finding { return x.callBy(ctx, c, pathservice.Report, true, x.serviceReport) })
	}
}

// openSocket begins HTTP/2 in a WebSocket. The connection is nil unless the handshake works.
func (x *examination) openSocket(ctx context.Context) (*http2Conn, *websocket.Conn, Finding) {
	conn, err := x.net.Dial(ctx, x.target, "http/1.1")
	if err != nil {
		return nil, nil, finding(err)
	}
	r := (&http.Request{Method: http.MethodGet, URL: x.target.URL(pathservice.Echo), Header: http.Header{"User-Agent": {userAgent}}}).WithContext(ctx)
	maps.Copy(r.Header, x.header)
	ws, err := websocket.Open(conn, r, websocket.Options{Subprotocol: tunnel.Name, Pool: mem.DefaultBufferPool()})
	if err != nil {
		_ = conn.Close() // it is over
		return nil, nil, socketFinding(err)
	}
	c, err := openHTTP2(ctx, socketPipe{conn, ws, tunnel.NewReader(ws)}, x.target)
	if err != nil {
		return nil, nil, finding(err)
	}
	return c, ws, found(works, "101, subprotocol h2ts")
}

// socketFinding returns the finding of a handshake that failed.
func socketFinding(err error) Finding {
	e, ok := errors.AsType[*websocket.HandshakeError](err)
	switch {
	case !ok, wantsCertificate(err):
		return finding(err)
	case e.Err != nil && socket.TimedOut(e.Err):
		return found(silent, "no answer to the handshake")
	case e.Err != nil && isCut(e.Err):
		return found(cut, "the connection was closed in the handshake")
	case e.Err != nil, e.Code == 0, e.Code == http.StatusSwitchingProtocols:
		return found(failed, "%s", printable(e.Error()))
	}
	f := refusedBy(answerOf(e.Code, e.Header, io.NopCloser(bytes.NewReader(e.Body))))
	switch {
	case e.Code == http.StatusUpgradeRequired && f.Answer.Culvert:
		f.Result, f.Cause, f.Evidence = stripped, "", "the service saw a GET without Upgrade: "+f.Evidence
	case e.Stripped() && !f.Answer.Culvert && e.Code != http.StatusBadRequest:
		f.Result, f.Evidence = stripped, "the answer is one to a GET without Upgrade: "+f.Evidence
	}
	return f
}

// A socketPipe is the stream of bytes in a WebSocket's binary messages. Unlike the client's
// tunnel it sends no pings, which would keep a connection alive that is to be left alone.
type socketPipe struct {
	net.Conn // below the WebSocket
	ws       *websocket.Conn
	in       *tunnel.Reader
}

func (p socketPipe) Read(b []byte) (int, error) { return p.in.Read(b) }

func (p socketPipe) Write(b []byte) (int, error) {
	if err := p.ws.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
		return 0, err //nolint:wrapcheck // of the connection
	}
	if err := p.ws.WriteMessage(websocket.Binary, nil, false, b); err != nil {
		return 0, err //nolint:wrapcheck // of the connection
	}
	return len(b), p.ws.SetWriteDeadline(time.Time{}) // pings and pongs are written, too
}

// Close cuts the connection: nobody has to learn how a probe ended.
func (p socketPipe) Close() error {
	p.ws.Drop()
	return nil
}

// writePatience bounds a write: a few bytes, which the kernel takes at once unless the path
// is dead.
const writePatience = 10 * time.Second
