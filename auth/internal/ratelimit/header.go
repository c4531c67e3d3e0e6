package ratelimit

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
	"github.com/culvert-grpc/culvert/codec"
)

// The bounds of what the service adds for a client. Its own are three numbers.
const (
	maxHeaders     = 16
	maxHeaderBytes = 4 << 10 // as HTTP/2 counts fields
)

// header returns the headers of an answer that may reach the client. What can't pass is left
// out, and changes nothing about the answer: headers tell a client about its limits, and no
// backend or rule counts on them.
func (l *Limiter) header(list []*corev3.HeaderValue) (md metadata.MD) {
	n, bytes := 0, 0
	for _, h := range list {
		name, value := ask.Lower(h.GetKey()), valueOf(h)
		if !codec.ValidName(name) || strings.HasSuffix(name, "-bin") || !codec.ValidValue(value) || l.o.ReservedDown(name) {
			continue
		}
		if n, bytes = n+1, bytes+codec.FieldBytes(name, value); n > maxHeaders || bytes > maxHeaderBytes {
			break
		}
		if md == nil {
			md = make(metadata.MD)
		}
		md[name] = append(md[name], value)
	}
	return md
}

func valueOf(h *corev3.HeaderValue) string {
	if raw := h.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return h.GetValue()
}
