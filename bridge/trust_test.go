package bridge

import (
	"context"
	"net/http"
	"testing"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A truster tells whether each call is trusted.
type truster struct {
	report.Observer
	trusts chan bool
}

func (o truster) CallBegan(_ context.Context, c *report.CallInfo, _ metadata.MD) report.CallObserver {
	o.trusts <- c.Trusted
	return nil
}

// TestTrustEndsWhereTheProxySeesNothing: a trusted proxy could have removed a traceparent from the
// request, but not from a WebSocket's first message.
func TestTrustEndsWhereTheProxySeesNothing(t *testing.T) {
	o := truster{report.Discard(), make(chan bool, 1)}
	address := serve(t, newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: o, TrustedProxies: prefixes(t, "127.0.0.0/8")}))
	const header = "content-type: application/grpc-web+proto\r\n"
	for _, c := range []struct {
		name, client, block string
		want                bool
	}{
		{"the proxy itself", "", header + "traceparent: x\r\n", true},
		{"a client's traceparent", "203.0.113.7", header + "traceparent: x\r\n", false},
		{"a client's tracestate", "203.0.113.7", header + "tracestate: x\r\n", false},
		{"none of a client", "203.0.113.7", header, true},
	} {
		h := http.Header{"Traceparent": {"y"}}
		if c.client != "" {
			h.Set("X-Forwarded-For", c.client)
		}
		ws, _, err := coder.Dial(t.Context(), "ws://"+address+"/test.v1.Test/Echo", &coder.DialOptions{Subprotocols: []string{"grpc-websockets"}, HTTPHeader: h})
		if err != nil {
			t.Fatal(err)
		}
		if err := ws.Write(t.Context(), coder.MessageBinary, []byte(c.block)); err != nil {
			t.Fatal(err)
		}
		if got := await(t, "the call", o.trusts); got != c.want {
			t.Errorf("%s: trusted %t, want %t", c.name, got, c.want)
		}
		_ = ws.CloseNow() // the test is over
	}
}
