package telemetry

import (
	"encoding/hex"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
)

// The metadata of W3C's trace context and baggage.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
	baggage     = "baggage"
)

// The bounds of a caller's metadata about traces. W3C asks to carry 512 bytes and 32 members of
// a tracestate, and 64 members and 8 KiB of a baggage.
// https://www.w3.org/TR/trace-context/#tracestate-limits
// https://www.w3.org/TR/baggage/#limits
const (
	maxStateBytes   = 512
	maxStateMembers = 32
	maxBaggageBytes = 8 << 10
)

// A spanContext names a span in a trace, as a traceparent carries it.
type spanContext struct {
	trace   [16]byte
	span    [8]byte
	sampled bool
}

// parentBytes is the length of a traceparent of version 00.
const parentBytes = len("00-") + 32 + len("-") + 16 + len("-00")

// parseParent reads a traceparent. ok is false if it isn't valid. A later version may have
// more behind another dash. https://www.w3.org/TR/trace-context/#traceparent-header
func parseParent(s string) (c spanContext, ok bool) {
	switch {
	case len(s) < parentBytes, s[2] != '-' || s[35] != '-' || s[52] != '-':
		return c, false
	case s[:2] == "00" && len(s) != parentBytes, len(s) > parentBytes && s[parentBytes] != '-':
		return c, false
	}
	var version, flags [1]byte
	if !readHex(version[:], s[:2]) || version[0] == 0xff || !readHex(flags[:], s[53:55]) ||
		!readHex(c.trace[:], s[3:35]) || !readHex(c.span[:], s[36:52]) {
		return spanContext{}, false
	}
	if c.trace == [16]byte{} || c.span == [8]byte{} {
		return spanContext{}, false
	}
	c.sampled = flags[0]&1 != 0
	return c, true
}

// readHex reads digits in lower case. A traceparent has no others.
func readHex(to []byte, digits string) bool {
	if strings.ContainsAny(digits, "ABCDEF") {
		return false
	}
	_, err := hex.Decode(to, []byte(digits))
	return err == nil
}

// String writes the traceparent, in version 00.
func (c spanContext) String() string {
	var b [parentBytes]byte
	b[0], b[1], b[2] = '0', '0', '-'
	hex.Encode(b[3:], c.trace[:])
	b[35] = '-'
	hex.Encode(b[36:], c.span[:])
	b[52], b[53], b[54] = '-', '0', '0'
	if c.sampled {
		b[54] = '1'
	}
	return string(b[:])
}

// parentIn returns the context of the caller's span. ok is false if there is none, or more
// than one. A call has it in its metadata on every transport.
func parentIn(md metadata.MD) (c spanContext, ok bool) {
	values := md[traceparent]
	if len(values) != 1 {
		return c, false
	}
	return parseParent(values[0])
}

// stateIn returns the caller's tracestate, or "" if it is over the bounds, which would let
// a caller make each request to the backend larger.
func stateIn(md metadata.MD) string {
	values := md[tracestate]
	if len(values) == 0 {
		return ""
	}
	bytes := 0
	for _, v := range values {
		bytes += len(v) + 1
	}
	if bytes > maxStateBytes+1 {
		return ""
	}
	state := strings.Join(values, ",")
	if strings.Count(state, ",") >= maxStateMembers {
		return ""
	}
	return state
}

// keepBaggage removes the members of the caller's baggage that aren't listed.
func keepBaggage(md metadata.MD, names []string) {
	values := md[baggage]
	if len(values) == 0 {
		return
	}
	if kept := listedMembers(values, names); kept != "" {
		md[baggage] = []string{kept}
	} else {
		delete(md, baggage)
	}
}

// listedMembers returns the members of a baggage with these names, as they came. A member that
// would make it longer than maxBaggageBytes is left out.
func listedMembers(values, names []string) string {
	if len(names) == 0 {
		return ""
	}
	var kept strings.Builder
	for _, v := range values {
		for member := range strings.SplitSeq(v, ",") {
			member = strings.Trim(member, " \t")
			name, _, ok := strings.Cut(member, "=")
			if !ok || !slices.Contains(names, strings.TrimRight(name, " \t")) || kept.Len()+1+len(member) > maxBaggageBytes {
				continue
			}
			if kept.Len() > 0 {
				kept.WriteByte(',')
			}
			kept.WriteString(member)
		}
	}
	return kept.String()
}
