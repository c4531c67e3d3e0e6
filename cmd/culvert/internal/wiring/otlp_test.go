package wiring

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// TestEveryKeyOfOTLPArrives: the certificates do in keys.
func TestEveryKeyOfOTLPArrives(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	c := cmdtest.Load(t, `
backend: {address: localhost:1}
otlp:
  endpoint: https://otlp.example.com
  protocol: grpc
  headers: [{name: authorization, value: x}]
  compression: gzip
  timeout: 3s
  service: edge
  attributes: [{name: a, value: b}]
  ca: ca.pem
  cert: cert.pem
  key: key.pem
traces:
  ratio: 0.25
  errors: true
  tell_unsampled: true
  upstream_span: true
  baggage: [tenant]
`)
	to := telemetry.Receiver{
		GRPC: true, Gzip: true, Timeout: 3 * time.Second, Service: "edge",
		Headers: map[string]string{"authorization": "x"}, Attributes: map[string]string{"a": "b"},
	}
	if got := Receiver(c.OTLP); !reflect.DeepEqual(got, to) {
		t.Errorf("the receiver is %+v, want %+v", got, to)
	}
	rules := telemetry.TraceRules{Ratio: 0.25, Errors: true, Unsampled: true, Upstream: true, Baggage: []string{"tenant"}}
	if got := TraceRules(c.Traces); !reflect.DeepEqual(got, rules) {
		t.Errorf("the rules are %+v, want %+v", got, rules)
	}
	byReload := []string{"otlp.headers", "traces.ratio", "traces.errors", "traces.tell_unsampled", "traces.upstream_span", "traces.baggage"}
	for _, k := range config.Keys() {
		if (strings.HasPrefix(k.Name, "traces.") || strings.HasPrefix(k.Name, "otlp.")) && config.NeedsRestart(k.Name) == slices.Contains(byReload, k.Name) {
			t.Errorf("%s needs a restart: %t", k.Name, config.NeedsRestart(k.Name))
		}
	}
}
