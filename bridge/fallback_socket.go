package bridge

import (
	"bytes"
	"net/http"

	"github.com/culvert-grpc/culvert/bridge/fallback"
)

// Switch implements fallback.Exchange.
func (x *webExchange) Switch(answer http.Header) (fallback.Conn, error) {
	closed := x.a.on.Taken()
	conn, rw, err := x.rc.Hijack()
	if err != nil {
		return nil, err
	}
	if answer["X-Request-Id"] == nil {
		answer["X-Request-Id"] = []string{x.info.ID}
	}
	x.info.WebSocket, x.info.Status = true, http.StatusSwitchingProtocols
	// net/http's reader would end the context at the client's end.
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	return &fallback.Client{
		Conn: conn, Unread: bytes.Clone(unread), Closed: closed,
		Of: &x.run.call.progress, In: &x.run.in.bytes, Out: &x.run.out.bytes, Lost: &x.lost,
	}, nil
}
