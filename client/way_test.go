package client

import (
	"errors"
	"testing"
)

// TestNoWay names each way, and each cause once.
func TestNoWay(t *testing.T) {
	refused, cut := errors.New("connect to a:1: refused"), errors.New("cut")
	for _, c := range []struct {
		causes []error
		want   string
	}{
		{[]error{refused, refused, refused}, "no way to E works: grpc, websocket and grpc-web: connect to a:1: refused"},
		{[]error{refused, cut, refused}, "no way to E works: grpc and grpc-web: connect to a:1: refused; websocket: cut"},
		{[]error{cut}, "no way to E works: grpc: cut"},
	} {
		e := &noWayError{edge: "E"}
		for i, err := range c.causes {
			e.ways = append(e.ways, &wayError{ways[i], err})
		}
		if got := e.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// TestPinned: only ways that there are can be pinned, and "auto" pins none.
func TestPinned(t *testing.T) {
	for way, want := range map[Way]Way{"": "", auto: "", GRPC: GRPC, WebSocket: WebSocket, GRPCWeb: GRPCWeb} {
		d, err := NewDialer("https://edge.example.com", WithWay(way))
		if err != nil || d.o.way != want {
			t.Errorf("WithWay(%q): %v", way, err)
			continue
		}
		d.Close()
	}
	if _, err := NewDialer("https://edge.example.com", WithWay("websockets")); err == nil {
		t.Error("WithWay(\"websockets\") is no error")
	}
}
