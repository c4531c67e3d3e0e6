package demo

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// newBridge returns a real culvert, as cmd/culvert does for the demo.
func newBridge(c BridgeConfig) (Bridge, error) {
	return bridge.New(bridge.Config{
		Backend:      bridge.Backend{Target: c.Backend},
		Observer:     observer{c},
		AllowOrigins: c.AllowOrigins,
		LoopbackOnly: c.LoopbackOnly,
		Fallback:     c.Fallback,
	})
}

type observer struct{ BridgeConfig }

func (observer) ConnBegan(report.ConnInfo) {}
func (observer) ConnEnded(report.ConnInfo) {}

func (o observer) CallBegan(context.Context, *report.CallInfo, metadata.MD) report.CallObserver {
	return callObserver(o)
}

type callObserver struct{ BridgeConfig }

func (callObserver) Header(metadata.MD)            {}
func (callObserver) Message(report.Direction, int) {}

func (o callObserver) Ended(c *report.CallInfo) {
	o.BridgeConfig.CallEnded(Call{Transport: c.Transport, Method: c.Method, Status: c.Status, Duration: c.Duration})
}

func (observer) WebEnded(*report.WebInfo) {}

func (o observer) Refused(r report.Refusal) {
	o.BridgeConfig.Refused(Refusal{Reason: string(r.Reason), Peer: r.Peer, Detail: r.Detail})
}

func TestCheckPasses(t *testing.T) {
	var out bytes.Buffer
	err := Check(t.Context(), Config{NewBridge: newBridge, Out: &out, Version: "test"})
	t.Logf("\n%s", out.String())
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "✓ ") {
			t.Errorf("got the line %q, want a ✓", line)
		}
	}
}

func TestCheckSaysWhatFails(t *testing.T) {
	var out bytes.Buffer
	deaf := func(c BridgeConfig) (Bridge, error) {
		return bridge.New(bridge.Config{Backend: bridge.Backend{Target: c.Backend}, DenyMethods: []string{"*/Converse"}, AllowOrigins: c.AllowOrigins, Fallback: c.Fallback})
	}
	err := Check(t.Context(), Config{NewBridge: deaf, Out: &out})
	if want := "5 … 13"; err == nil || !regexp.MustCompile(`\b5\b.*\b13\b`).MatchString(err.Error()) {
		t.Errorf("got %v, want %q", err, want)
	}
	for line := range strings.Lines(out.String()) {
		conversation := strings.Contains(line, "conversation") || strings.Contains(line, "WebSocket")
		failsElsewhere := strings.Contains(line, "native gRPC fails") // before culvert can refuse it
		if want := conversation && !failsElsewhere; strings.HasPrefix(line, "✗ ") != want {
			t.Errorf("got %q, want it failed: %v", line, want)
		}
	}
}
