package bridge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

func TestSizesOfListenersAndMethods(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, Limits: Limits{MessageBytes: 100, HeaderBytes: 100}})
	for name, c := range map[string]struct {
		listener          Listener
		method            *methodLimit
		messages, headers report.SizeLimit
	}{
		"none":                       {Listener{}, nil, report.SizeLimit{Bytes: 100, Key: report.KeyMessageBytes}, report.SizeLimit{Bytes: 100, Key: report.KeyHeaderBytes}},
		"a listener that takes less": {Listener{MessageBytes: 50, HeaderBytes: 60}, nil, report.SizeLimit{Bytes: 50, Key: report.KeyListenerMessageBytes}, report.SizeLimit{Bytes: 60, Key: report.KeyListenerHeaderBytes}},
		"a listener that takes more": {Listener{MessageBytes: 150, HeaderBytes: 160}, nil, report.SizeLimit{Bytes: 100, Key: report.KeyMessageBytes}, report.SizeLimit{Bytes: 100, Key: report.KeyHeaderBytes}},
		"a method that takes more":   {Listener{}, &methodLimit{messageBytes: 200, headerBytes: 200}, report.SizeLimit{Bytes: 200, Key: report.KeyMethodMessageBytes}, report.SizeLimit{Bytes: 100, Key: report.KeyHeaderBytes}},
		"a method that takes less":   {Listener{}, &methodLimit{messageBytes: 20, headerBytes: 30}, report.SizeLimit{Bytes: 20, Key: report.KeyMethodMessageBytes}, report.SizeLimit{Bytes: 30, Key: report.KeyMethodHeaderBytes}},
		"both":                       {Listener{MessageBytes: 50, HeaderBytes: 10}, &methodLimit{messageBytes: 200, headerBytes: 30}, report.SizeLimit{Bytes: 50, Key: report.KeyListenerMessageBytes}, report.SizeLimit{Bytes: 10, Key: report.KeyListenerHeaderBytes}},
	} {
		messages, headers := s.policy.Load().sizes(edge.NewListening(c.listener), c.method, nil)
		if messages != c.messages || headers != c.headers {
			t.Errorf("%s: %v and %v, want %v and %v", name, messages, headers, c.messages, c.headers)
		}
	}
}

// TestListenersTakeTheirSizes: what is over a listener's own limits is refused
// there, in tunnels too, and nowhere else.
func TestListenersTakeTheirSizes(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	small := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{MessageBytes: 1 << 10, HeaderBytes: 2 << 10})
	large := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{})
	message, field := bytes.Repeat([]byte{1}, 2<<10), strings.Repeat("x", 3<<10)
	for name, cc := range map[string]*grpc.ClientConn{"native": dial(t, small), "in a tunnel": dialTunnel(t, small, http.Header{})} {
		if err := unary(within(t, patience), cc, testMethod); err != nil {
			t.Errorf("%s: a small call: %v", name, err)
		}
		err := cc.Invoke(within(t, patience), testMethod, message, new([]byte))
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), " "+report.KeyListenerMessageBytes+")") || errorInfo(t, status.Convert(err)).GetMetadata()["limit"] != report.KeyListenerMessageBytes {
			t.Errorf("%s: a large message: %v, want RESOURCE_EXHAUSTED by %s", name, err, report.KeyListenerMessageBytes)
		}
		err = unary(metadata.AppendToOutgoingContext(within(t, patience), "x-large", field), cc, testMethod)
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(status.Convert(err).Message(), " "+report.KeyListenerHeaderBytes+")") || errorInfo(t, status.Convert(err)).GetMetadata()["limit"] != report.KeyListenerHeaderBytes {
			t.Errorf("%s: much metadata: %v, want RESOURCE_EXHAUSTED by %s", name, err, report.KeyListenerHeaderBytes)
		}
	}
	if err := unary(metadata.AppendToOutgoingContext(within(t, patience), "x-large", field), dial(t, large), testMethod); err != nil {
		t.Errorf("the same metadata at another listener: %v", err)
	}
}

// TestListenersTakeTheirStreams: one more than a listener's own number waits at
// the client, as HTTP/2 has it, in a tunnel too.
func TestListenersTakeTheirStreams(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{CallsPerConnection: 2})
	for name, cc := range map[string]*grpc.ClientConn{"native": dial(t, address), "in a tunnel": dialTunnel(t, address, http.Header{})} {
		var held []grpc.ClientStream
		for range 2 {
			held = append(held, open(within(t, patience), t, cc, testMethod))
		}
		if err := unary(within(t, 300*time.Millisecond), cc, testMethod); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: a third call beside two: %v, want it to wait", name, err)
		}
		if err := held[0].CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := held[0].RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := unary(within(t, patience), cc, testMethod); err != nil {
			t.Errorf("%s: a call in the place of one that ended: %v", name, err)
		}
	}
}
