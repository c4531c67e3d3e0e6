package bridge

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestWebSocketOfTheWebServer passes in both directions, also what the client sends
// before it has the answer, and ends with the drain.
func TestWebSocketOfTheWebServer(t *testing.T) {
	left := make(chan error, 8) // more than the test opens
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = ws.CloseNow() }() // at the latest
		for {
			kind, message, err := ws.Read(r.Context())
			if err != nil {
				left <- err
				return
			}
			if err := ws.Write(r.Context(), kind, append([]byte(r.Host+" "), message...)); err != nil {
				left <- err
				return
			}
		}
	})
	o := newWebObserver()
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: o})
	address := serve(t, s)
	dial := func() *websocket.Conn {
		t.Helper()
		ws, res, err := websocket.Dial(within(t, patience), "ws://"+address+"/chat", &websocket.DialOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			t.Fatal(err)
		}
		if res.Header.Get("X-Request-Id") == "" || ws.Subprotocol() != "chat" || len(res.Header["Connection"]) != 1 {
			t.Errorf("the handshake is answered %v", res.Header)
		}
		return ws
	}
	ws := dial()
	for _, text := range []string{"hello", strings.Repeat("x", 30_000)} {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(within(t, patience)); err != nil || string(got) != address+" "+text {
			t.Fatalf("got %.50q, %v", got, err)
		}
	}
	if err := ws.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("the close: %v", err)
	}
	if err := await(t, "the close", left); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the web server saw %v", err)
	}
	if i := await(t, "the end", o.web); !i.WebSocket || i.Status != 101 || i.Reason != "" || i.BytesIn < 30_000 || i.BytesOut < 30_000 {
		t.Errorf("the log has %+v", i)
	}
	_, res, err := websocket.Dial(within(t, patience), "ws://"+address+"/refused", nil)
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("a refused handshake: %v, %v", res, err)
	}
	_ = await(t, "the refused one", o.web)

	ws = dial()
	defer func() { _ = ws.CloseNow() }() // at the latest
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if _, _, err := ws.Read(within(t, patience)); err == nil {
		t.Error("the WebSocket outlives the drain")
	}
	if i := await(t, "the drain", o.web); i.Reason != report.ReasonDraining || !i.WebSocket {
		t.Errorf("the log has %+v", i)
	}
	_ = await(t, "the drain", left)
}

// TestFirstFramesBehindTheUpgrade: what a client sends at once isn't lost.
func TestFirstFramesBehindTheUpgrade(t *testing.T) {
	to := rawWebServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\r\nfirst ")
		early := make([]byte, len("early"))
		_, _ = io.ReadFull(r, early) // the client sees it
		_, _ = c.Write(bytes.ToUpper(early))
	})
	address := serve(t, newServer(t, Config{Backend: nowhere, FallbackURL: to}))
	conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	_, _ = io.WriteString(conn, "GET /x HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket, h2c\r\n\r\nearly")
	got, err := io.ReadAll(conn)
	if text := string(got); err != nil || !strings.HasPrefix(text, "HTTP/1.1 101 ") || !strings.HasSuffix(text, "\r\n\r\nfirst EARLY") {
		t.Errorf("got %q, %v", got, err)
	}
}
