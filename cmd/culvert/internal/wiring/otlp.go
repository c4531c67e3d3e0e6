package wiring

import (
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// Receiver converts what the receivers of all signals have. serve adds Endpoint, TLS, Version and
// Instance.
func Receiver(o config.OTLP) telemetry.Receiver {
	to := telemetry.Receiver{
		GRPC: o.Protocol == "grpc", Gzip: o.Compression == "gzip", Timeout: o.Timeout, Service: o.Service,
		Headers: make(map[string]string, len(o.Headers)), Attributes: make(map[string]string, len(o.Attributes)),
	}
	for _, h := range o.Headers {
		to.Headers[h.Name] = h.Value
	}
	for _, a := range o.Attributes {
		to.Attributes[a.Name] = a.Value
	}
	return to
}

// TraceRules converts the rules for the traces of calls.
func TraceRules(t config.Traces) telemetry.TraceRules {
	return telemetry.TraceRules{Ratio: float64(t.Ratio), Errors: t.Errors, Unsampled: t.TellUnsampled, Upstream: t.UpstreamSpan, Baggage: t.Baggage}
}
