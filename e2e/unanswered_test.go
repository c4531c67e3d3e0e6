package e2e

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A client that answers no ping on a quiet stream is told UNAVAILABLE and close
// code 1001: applications that see CANCELLED and 1000 don't call again.
func TestUnansweredPingEndsUnavailable(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+c.address+wire.Bidi, &websocket.DialOptions{
		Subprotocols:   []string{"grpc-websockets"},
		OnPingReceived: func(context.Context, []byte) bool { return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }() // it may be closed
	id := newID(t)
	var head bytes.Buffer
	head.WriteString("content-type: application/grpc-web+proto\r\n")
	for name, values := range wire.Metadata(id, probe.Script{Hang: true}) {
		for _, v := range values {
			head.WriteString(strings.ToLower(name) + ": " + v + "\r\n")
		}
	}
	if err := ws.Write(ctx, websocket.MessageBinary, head.Bytes()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var last []byte
	for {
		_, message, err := ws.Read(ctx)
		var end websocket.CloseError
		if errors.As(err, &end) {
			if end.Code != websocket.StatusGoingAway {
				t.Errorf("it was closed with %d, want 1001", end.Code)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = message
	}
	if after := time.Since(began); after < 28*time.Second || after > 40*time.Second {
		t.Errorf("it ended after %v, want 30 s", after)
	}
	if !bytes.Contains(last, []byte("grpc-status: 14\r\n")) {
		t.Errorf("the last message is %q, want UNAVAILABLE", last)
	}
	c.loggedLike(t, func(l map[string]any) bool { return l["reason"] == "CLIENT_SILENT" && l["code"] == "UNAVAILABLE" })
	if r := b.record(t, id, probe.Cancelled, cutIsSeen); r.Cancelled.IsZero() {
		t.Error("the backend's call goes on")
	}
}
