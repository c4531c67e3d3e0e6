package telemetry

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// What OTLP sends, in protobuf. A call writes its span once, when it ends, and nothing reads it
// again before it leaves: OpenTelemetry's SDK, with a message for each attribute, takes six times
// as long (docs/decisions/0062-traces-without-the-sdk.md).
// https://github.com/open-telemetry/opentelemetry-proto/tree/v1.11.0/opentelemetry/proto

// The numbers of the fields, by their messages.
const (
	requestResourceSpans = 1

	resourceSpansResource, resourceSpansScopeSpans, resourceSpansSchema = 1, 2, 3
	scopeSpansScope, scopeSpansSpans, scopeSpansSchema                  = 1, 2, 3
	resourceAttributes                                                  = 1
	scopeName, scopeVersion                                             = 1, 2

	spanTrace, spanID, spanState, spanParent, spanName, spanKind = 1, 2, 3, 4, 5, 6
	spanStart, spanEnd, spanAttributes, spanEvents, spanLinks    = 7, 8, 9, 11, 13
	spanDroppedEvents, spanStatus, spanFlags                     = 12, 15, 16

	eventTime, eventName, eventAttributes         = 1, 2, 3
	linkTrace, linkID, linkState, linkFlags       = 1, 2, 3, 6
	statusCode                                    = 3
	keyOfValue, valueOfKey                        = 1, 2
	textValue, intValue                           = 1, 3
	responsePartial, partialRejected, partialText = 1, 1, 2
)

// The values of enums and flags.
const (
	kindServer, kindClient = 2, 3
	statusError            = 2

	flagSampled     = 0x001
	flagKnowsRemote = 0x100 // the next flag counts
	flagRemote      = 0x200 // the parent, or the link's span, is another program's
)

// A message is a protobuf message that is being written.
type message []byte

func (m message) text(field protowire.Number, s string) message {
	if s == "" {
		return m
	}
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), s)
}

func (m message) bytes(field protowire.Number, b []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), b)
}

func (m message) number(field protowire.Number, n uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), n)
}

func (m message) flags(field protowire.Number, n uint32) message {
	return protowire.AppendFixed32(protowire.AppendTag(m, field, protowire.Fixed32Type), n)
}

func (m message) at(field protowire.Number, t time.Time) message {
	return protowire.AppendFixed64(protowire.AppendTag(m, field, protowire.Fixed64Type), uint64(t.UnixNano()))
}

// shortLength is the most that fits into a length of two bytes, as begin leaves.
const shortLength = 1<<14 - 1

// begin begins a message within m. end ends it, with what begin returned.
func (m message) begin(field protowire.Number) (message, int) {
	m = append(protowire.AppendTag(m, field, protowire.BytesType), 0, 0)
	return m, len(m)
}

// end writes the length of a message before it, in two bytes. All that are written so have
// bounds far below.
func (m message) end(began int) message {
	n := len(m) - began
	if n > shortLength {
		panic("BUG: telemetry: a part of a span is larger than the bounds of its texts allow")
	}
	m[began-2], m[began-1] = byte(n)|0x80, byte(n>>7)
	return m
}

// attribute writes a text that isn't empty.
func (m message) attribute(field byte, key, value string) message {
	if value == "" {
		return m
	}
	if n := len(key) + len(value) + 6; n < 1<<7 { // each length takes a byte, as nearly always
		m = append(m, field<<3|byte(protowire.BytesType), byte(n), keyOfValue<<3|byte(protowire.BytesType), byte(len(key)))
		m = append(m, key...)
		m = append(m, valueOfKey<<3|byte(protowire.BytesType), byte(len(value)+2), textValue<<3|byte(protowire.BytesType), byte(len(value)))
		return append(m, value...)
	}
	m, pair := m.begin(protowire.Number(field))
	m = m.text(keyOfValue, key)
	m, of := m.begin(valueOfKey)
	return m.text(textValue, value).end(of).end(pair)
}

// count writes a number, which isn't below zero. The keys are short.
func (m message) count(field byte, key string, n int64) message {
	size := protowire.SizeVarint(uint64(n))
	m = append(m, field<<3|byte(protowire.BytesType), byte(len(key)+size+5), keyOfValue<<3|byte(protowire.BytesType), byte(len(key)))
	m = append(m, key...)
	m = append(m, valueOfKey<<3|byte(protowire.BytesType), byte(size+1), intValue<<3|byte(protowire.VarintType))
	return protowire.AppendVarint(m, uint64(n))
}

// A spanSource is what all spans of a program have in common.
type spanSource struct {
	before []byte // the resource
	scope  []byte
}

func newSpanSource(resource map[string]string, order []string, version string) spanSource {
	var about, scope message
	for _, name := range order {
		about = about.attribute(resourceAttributes, name, resource[name])
	}
	scope = scope.text(scopeName, "github.com/culvert-grpc/culvert").text(scopeVersion, version)
	return spanSource{before: message(nil).bytes(resourceSpansResource, about), scope: message(nil).bytes(scopeSpansScope, scope)}
}

// request writes a request with the spans, which are fields of a ScopeSpans already.
func (s *spanSource) request(spans []byte) []byte {
	schemaOfScope := message(nil).text(scopeSpansSchema, schema)
	schemaOfResource := message(nil).text(resourceSpansSchema, schema)
	inScope := len(s.scope) + len(spans) + len(schemaOfScope)
	inResource := len(s.before) + protowire.SizeTag(resourceSpansScopeSpans) + protowire.SizeBytes(inScope) + len(schemaOfResource)
	m := make(message, 0, inResource+16)
	m = protowire.AppendVarint(protowire.AppendTag(m, requestResourceSpans, protowire.BytesType), uint64(inResource))
	m = append(m, s.before...)
	m = protowire.AppendVarint(protowire.AppendTag(m, resourceSpansScopeSpans, protowire.BytesType), uint64(inScope))
	m = append(append(append(m, s.scope...), spans...), schemaOfScope...)
	return append(m, schemaOfResource...)
}

// rejectedIn reads how many spans a receiver rejected although it answered well, and why. What
// it can't read has none: the receiver has accepted the request.
func rejectedIn(answer []byte) (spans int64, why string) {
	partial := fieldOf(answer, responsePartial)
	for len(partial) > 0 {
		field, kind, n := protowire.ConsumeTag(partial)
		if n < 0 {
			return spans, why
		}
		partial = partial[n:]
		switch {
		case field == partialRejected && kind == protowire.VarintType:
			v, n := protowire.ConsumeVarint(partial)
			if n < 0 {
				return spans, why
			}
			spans = max(int64(v), 0)
			partial = partial[n:]
		case field == partialText && kind == protowire.BytesType:
			v, n := protowire.ConsumeBytes(partial)
			if n < 0 {
				return spans, why
			}
			why, partial = cut(string(v)), partial[n:]
		default:
			if n = protowire.ConsumeFieldValue(field, kind, partial); n < 0 {
				return spans, why
			}
			partial = partial[n:]
		}
	}
	return spans, why
}

// fieldOf returns the last message in a field, or nil.
func fieldOf(m []byte, field protowire.Number) (found []byte) {
	for len(m) > 0 {
		f, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return found
		}
		m = m[n:]
		if f == field && kind == protowire.BytesType {
			if v, n := protowire.ConsumeBytes(m); n >= 0 {
				found = v
			}
		}
		if n = protowire.ConsumeFieldValue(f, kind, m); n < 0 {
			return found
		}
		m = m[n:]
	}
	return found
}
