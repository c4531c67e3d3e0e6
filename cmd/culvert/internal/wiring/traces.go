package wiring

import (
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// TraceReceiver converts where traces go. serve adds TLS, Version and Instance.
func TraceReceiver(t config.Traces) telemetry.TraceReceiver {
	to := telemetry.TraceReceiver{
		Endpoint: t.Endpoint, GRPC: t.Protocol == "grpc", Gzip: t.Compression == "gzip", Timeout: t.Timeout, Service: t.Service,
		Headers: make(map[string]string, len(t.Headers)), Attributes: make(map[string]string, len(t.Attributes)),
	}
	for _, h := range t.Headers {
		to.Headers[h.Name] = h.Value
	}
	for _, a := range t.Attributes {
		to.Attributes[a.Name] = a.Value
	}
	return to
}

// TraceRules converts the rules for the traces of calls.
func TraceRules(t config.Traces) telemetry.TraceRules {
	return telemetry.TraceRules{Ratio: float64(t.Ratio), Errors: t.Errors, Unsampled: t.TellUnsampled, Upstream: t.UpstreamSpan, Baggage: t.Baggage}
}
