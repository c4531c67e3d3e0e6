package telemetry

import (
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// What OTLP sends, in protobuf. A call writes its span and its line once, when it ends, and nothing
// reads them again before they leave: OpenTelemetry's SDK, with a message for each attribute, takes
// six times as long (docs/decisions/0062-traces-without-the-sdk.md).
// https://github.com/open-telemetry/opentelemetry-proto/tree/v1.11.0/opentelemetry/proto

// A signal is one kind of what a receiver gets. Its requests have items: spans, metrics or lines.
type signal struct {
	name   string // also that of its key in the section otlp
	items  string // in a line of the log
	fewer  string // how the receiver gets fewer of them
	method string // of gRPC
}

var (
	signalTraces  = signal{"traces", "spans", "lower traces.ratio", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"}
	signalMetrics = signal{"metrics", "values", "raise otlp.metrics_interval", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"}
	signalLogs    = signal{"logs", "lines", "set log.sample", "/opentelemetry.proto.collector.logs.v1.LogsService/Export"}
)

// The numbers of the fields that are the same for each signal.
const (
	requestOfResource = 1

	ofResource, resourceScopes, resourceSchema    = 1, 2, 3
	ofScope, scopeItems, scopeSchema              = 1, 2, 3
	resourceAttributes                            = 1
	scopeName, scopeVersion                       = 1, 2
	keyOfValue, valueOfKey                        = 1, 2
	textValue, boolValue, intValue, doubleValue   = 1, 2, 3, 4
	responsePartial, partialRejected, partialText = 1, 1, 2
)

// The numbers of the fields of spans, by their messages.
const (
	spanTrace, spanID, spanState, spanParent, spanName, spanKind = 1, 2, 3, 4, 5, 6
	spanStart, spanEnd, spanAttributes, spanEvents, spanLinks    = 7, 8, 9, 11, 13
	spanDroppedEvents, spanStatus, spanFlags                     = 12, 15, 16

	eventTime, eventName, eventAttributes   = 1, 2, 3
	linkTrace, linkID, linkState, linkFlags = 1, 2, 3, 6
	statusCode                              = 3
)

// Those of metrics. A value stands for a data point, and any for what all kinds of metrics have.
const (
	metricName, metricHelp, metricUnit                       = 1, 2, 3
	metricGauge, metricSum, metricHistogram, metricQuantiles = 5, 7, 9, 11
	anyPoints, anyTemporality, sumMonotonic                  = 1, 2, 3

	pointStart, pointTime                                    = 2, 3
	numberAttributes, numberValue, numberExemplars           = 7, 4, 5
	histogramAttributes, histogramCount, histogramSum        = 9, 4, 5
	histogramCounts, histogramBounds, histogramExemplars     = 6, 7, 8
	quantilesAttributes, quantilesCount, quantilesSum        = 7, 4, 5
	quantilesAll, quantileOf, quantileValue                  = 6, 1, 2
	exemplarTime, exemplarValue, exemplarSpan, exemplarTrace = 2, 3, 4, 5
)

// Those of the log.
const (
	lineTime, lineSeverity, lineSeverityName, lineBody = 1, 2, 3, 5
	lineAttributes, lineTrace, lineSpan, lineObserved  = 6, 9, 10, 11
)

// The values of enums and flags.
const (
	kindServer, kindClient = 2, 3
	statusError            = 2
	cumulative             = 2

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

func (m message) fixed(field protowire.Number, n uint64) message {
	return protowire.AppendFixed64(protowire.AppendTag(m, field, protowire.Fixed64Type), n)
}

func (m message) double(field protowire.Number, x float64) message {
	return m.fixed(field, math.Float64bits(x))
}

func (m message) at(field protowire.Number, t time.Time) message {
	return m.fixed(field, uint64(t.UnixNano()))
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
		panic("BUG: telemetry: a part of a message is larger than the bounds of its texts allow")
	}
	m[began-2], m[began-1] = byte(n)|0x80, byte(n>>7)
	return m
}

// attribute writes a text that isn't empty.
func (m message) attribute(field byte, key, value string) message {
	if value == "" {
		return m
	}
	return m.pair(field, key, value)
}

// pair writes a text, which may be empty.
func (m message) pair(field byte, key, value string) message {
	if n := len(key) + len(value) + 6; n < 1<<7 { // each length takes a byte, as nearly always
		m = append(m, field<<3|byte(protowire.BytesType), byte(n), keyOfValue<<3|byte(protowire.BytesType), byte(len(key)))
		m = append(m, key...)
		m = append(m, valueOfKey<<3|byte(protowire.BytesType), byte(len(value)+2), textValue<<3|byte(protowire.BytesType), byte(len(value)))
		return append(m, value...)
	}
	of := 1 + protowire.SizeBytes(len(value))
	m = protowire.AppendVarint(append(m, field<<3|byte(protowire.BytesType)), uint64(2+protowire.SizeBytes(len(key))+protowire.SizeBytes(of)))
	m = protowire.AppendString(append(m, keyOfValue<<3|byte(protowire.BytesType)), key)
	m = protowire.AppendVarint(append(m, valueOfKey<<3|byte(protowire.BytesType)), uint64(of))
	return protowire.AppendString(append(m, textValue<<3|byte(protowire.BytesType)), value)
}

// keyOf writes the beginning of a pair whose value takes size bytes. The keys are short.
func (m message) keyOf(field byte, key string, size int) message {
	m = append(m, field<<3|byte(protowire.BytesType), byte(len(key)+size+4), keyOfValue<<3|byte(protowire.BytesType), byte(len(key)))
	m = append(m, key...)
	return append(m, valueOfKey<<3|byte(protowire.BytesType), byte(size))
}

// maxKeyBytes is the most that keyOf takes.
const maxKeyBytes = 1<<7 - 1 - 4 - 11

func (m message) count(field byte, key string, n int64) message {
	m = m.keyOf(field, key, protowire.SizeVarint(uint64(n))+1)
	return m.number(intValue, uint64(n))
}

func (m message) decimal(field byte, key string, x float64) message {
	return m.keyOf(field, key, 9).double(doubleValue, x)
}

func (m message) truth(field byte, key string, yes bool) message {
	return m.keyOf(field, key, 2).number(boolValue, protowire.EncodeBool(yes))
}

// A source is what all requests of a program have in common.
type source struct {
	before []byte // the resource
	scope  []byte
}

// request writes a request with items, which are fields of a scope already.
func (s *source) request(items []byte) []byte {
	schemaOfScope := message(nil).text(scopeSchema, schema)
	schemaOfResource := message(nil).text(resourceSchema, schema)
	inScope := len(s.scope) + len(items) + len(schemaOfScope)
	inResource := len(s.before) + protowire.SizeTag(resourceScopes) + protowire.SizeBytes(inScope) + len(schemaOfResource)
	m := make(message, 0, inResource+16)
	m = protowire.AppendVarint(protowire.AppendTag(m, requestOfResource, protowire.BytesType), uint64(inResource))
	m = append(m, s.before...)
	m = protowire.AppendVarint(protowire.AppendTag(m, resourceScopes, protowire.BytesType), uint64(inScope))
	m = append(append(append(m, s.scope...), items...), schemaOfScope...)
	return append(m, schemaOfResource...)
}

// rejectedIn reads how many items a receiver rejected although it answered well, and why. What
// it can't read has none: the receiver has accepted the request.
func rejectedIn(answer []byte) (items int64, why string) {
	var partial []byte
	eachField(answer, func(field protowire.Number, kind protowire.Type, value []byte) {
		if field == responsePartial && kind == protowire.BytesType {
			partial, _ = protowire.ConsumeBytes(value)
		}
	})
	eachField(partial, func(field protowire.Number, kind protowire.Type, value []byte) {
		switch {
		case field == partialRejected && kind == protowire.VarintType:
			n, _ := protowire.ConsumeVarint(value)
			items = max(int64(n), 0)
		case field == partialText && kind == protowire.BytesType:
			text, _ := protowire.ConsumeBytes(value)
			why = cut(string(text))
		}
	})
	return items, why
}

// eachField calls f with the fields of a message, up to one that can't be read.
func eachField(m []byte, f func(field protowire.Number, kind protowire.Type, value []byte)) {
	for len(m) > 0 {
		field, kind, tag := protowire.ConsumeTag(m)
		if tag < 0 {
			return
		}
		n := protowire.ConsumeFieldValue(field, kind, m[tag:])
		if n < 0 {
			return
		}
		f(field, kind, m[tag:tag+n])
		m = m[tag+n:]
	}
}
