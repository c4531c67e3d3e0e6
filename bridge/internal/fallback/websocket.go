package fallback

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// errCarried reports that a WebSocket was carried to its end.
var errCarried = errors.New("the connection was a WebSocket")

const (
	// socketBytes is the size of a WebSocket's buffers, one for each direction.
	socketBytes = 4 << 10

	// closingTime is how long one side may send on after the other has ended.
	closingTime = 5 * time.Second
)

// carry carries the bytes of a WebSocket that the web server has accepted, until both
// sides have ended, or the context has. r is the client's request.
func carry(x Exchange, r *http.Request, res *http.Response) error {
	server, ok := res.Body.(Conn)
	if !ok || !isWebSocket(r.Header) || !isWebSocket(res.Header) {
		return fmt.Errorf("the web server switched the connection to %.100q", res.Header.Get("Upgrade"))
	}
	defer server.Close()
	head := res.Header.Clone()
	for _, name := range []string{"Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Trailer", "Transfer-Encoding", "Content-Length"} {
		head.Del(name)
	}
	head["Connection"], head["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	client, err := x.Switch(head)
	if err != nil {
		return err
	}
	defer client.Close()
	closeBoth := func() {
		_ = client.Close()
		_ = server.Close()
	}
	defer socket.WhenEnded(r.Context(), closeBoth)()
	answer := http.Response{StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: head}
	var text bytes.Buffer
	_ = answer.Write(&text) // a Buffer takes everything
	if _, err := client.Write(text.Bytes()); err != nil {
		return errCarried // the client is gone
	}
	var both sync.WaitGroup
	ends := make(chan struct{}, 2) // one place for each direction
	oneWay := func(to, from Conn) {
		defer func() { ends <- struct{}{} }()
		defer func() {
			if v := recover(); v != nil {
				_ = x.Panicked(v) // which has ended the exchange
				closeBoth()
			}
		}()
		pass(to, from)
		// One side's end is told to the other, which may still have bytes on their way.
		if to.CloseWrite() != nil {
			_ = to.Close()
		}
	}
	both.Go(func() { oneWay(server, client) })
	both.Go(func() { oneWay(client, server) })
	<-ends
	select {
	case <-ends:
	case <-time.After(closingTime):
		closeBoth()
	}
	both.Wait()
	return errCarried
}

// pass copies until from has ended or to takes no more. Then nothing more comes from
// from, either.
func pass(to, from Conn) {
	buf := make([]byte, socketBytes)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = to.Close()
			}
			return
		}
	}
}

// isWebSocket reports whether the header asks for a switch to WebSocket, or grants it,
// and to nothing else.
func isWebSocket(h http.Header) bool {
	return len(h["Upgrade"]) == 1 && strings.EqualFold(h["Upgrade"][0], "websocket")
}
