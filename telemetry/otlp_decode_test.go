package telemetry

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// A field is one of a protobuf message that a test reads.
type field struct {
	number protowire.Number
	n      uint64
	bytes  []byte
}

func fieldsOf(t testing.TB, m []byte) (all []field) {
	t.Helper()
	for len(m) > 0 {
		number, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			t.Fatalf("%x begins with no field: %v", m, protowire.ParseError(n))
		}
		m = m[n:]
		f := field{number: number}
		switch kind {
		case protowire.VarintType:
			f.n, n = protowire.ConsumeVarint(m)
		case protowire.Fixed64Type:
			f.n, n = protowire.ConsumeFixed64(m)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(m)
			f.n = uint64(v)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(m)
		default:
			t.Fatalf("field %d is of the kind %v", number, kind)
		}
		if n < 0 {
			t.Fatalf("field %d: %v", number, protowire.ParseError(n))
		}
		m = m[n:]
		all = append(all, f)
	}
	return all
}

// A readSpan is a span as a receiver reads it. Ids are in hex.
type readSpan struct {
	trace, id, parent, state, name string
	kind, start, end, flags        uint64
	dropped                        uint64 // events
	failed                         bool
	attributes                     map[string]string
	events                         []readEvent
	links                          []string // "trace span state flags"
}

type readEvent struct {
	name       string
	at         uint64
	attributes map[string]string
}

func readSpanOf(t testing.TB, m []byte) readSpan {
	t.Helper()
	s := readSpan{attributes: map[string]string{}}
	for _, f := range fieldsOf(t, m) {
		switch f.number {
		case 1:
			s.trace = hex.EncodeToString(f.bytes)
		case 2:
			s.id = hex.EncodeToString(f.bytes)
		case 3:
			s.state = string(f.bytes)
		case 4:
			s.parent = hex.EncodeToString(f.bytes)
		case 5:
			s.name = string(f.bytes)
		case 6:
			s.kind = f.n
		case 7:
			s.start = f.n
		case 8:
			s.end = f.n
		case 9:
			readAttribute(t, f.bytes, s.attributes)
		case 11:
			e := readEvent{attributes: map[string]string{}}
			for _, f := range fieldsOf(t, f.bytes) {
				switch f.number {
				case 1:
					e.at = f.n
				case 2:
					e.name = string(f.bytes)
				case 3:
					readAttribute(t, f.bytes, e.attributes)
				}
			}
			s.events = append(s.events, e)
		case 12:
			s.dropped = f.n
		case 13:
			parts := [7]string{}
			for _, f := range fieldsOf(t, f.bytes) {
				switch f.number {
				case 1, 2:
					parts[f.number] = hex.EncodeToString(f.bytes)
				case 3:
					parts[3] = string(f.bytes)
				case 6:
					parts[6] = strconv.FormatUint(f.n, 16)
				}
			}
			s.links = append(s.links, fmt.Sprint(parts[1], " ", parts[2], " ", parts[3], " ", parts[6]))
		case 15:
			for _, f := range fieldsOf(t, f.bytes) {
				s.failed = f.number == 3 && f.n == 2
			}
		case 16:
			s.flags = f.n
		default:
			t.Errorf("there is a field %d", f.number)
		}
	}
	return s
}

func readAttribute(t testing.TB, m []byte, all map[string]string) {
	t.Helper()
	key, value := "", ""
	for _, f := range fieldsOf(t, m) {
		if f.number == 1 {
			key = string(f.bytes)
			continue
		}
		for _, v := range fieldsOf(t, f.bytes) {
			value = string(v.bytes)
			if v.number == 3 {
				value = strconv.FormatInt(int64(v.n), 10)
			}
		}
	}
	if _, twice := all[key]; twice {
		t.Errorf("the attribute %s is there twice", key)
	}
	all[key] = value
}

// readRequest returns the spans of a request, and the attributes of their resource.
func readRequest(t testing.TB, request []byte) (spans []readSpan, resource map[string]string) {
	t.Helper()
	resource = map[string]string{}
	for _, f := range fieldsOf(t, request) {
		for _, f := range fieldsOf(t, f.bytes) {
			switch f.number {
			case 1:
				for _, a := range fieldsOf(t, f.bytes) {
					readAttribute(t, a.bytes, resource)
				}
			case 2:
				for _, f := range fieldsOf(t, f.bytes) {
					if f.number == 2 {
						spans = append(spans, readSpanOf(t, f.bytes))
					}
				}
			case 3:
				if string(f.bytes) != schema {
					t.Errorf("the schema is %q", f.bytes)
				}
			}
		}
	}
	return spans, resource
}

// itemsOf returns the items of a request of any signal.
func itemsOf(t testing.TB, request []byte) (items [][]byte) {
	t.Helper()
	for _, resource := range fieldsOf(t, request) {
		for _, f := range fieldsOf(t, resource.bytes) {
			if f.number != resourceScopes {
				continue
			}
			for _, f := range fieldsOf(t, f.bytes) {
				if f.number == scopeItems {
					items = append(items, f.bytes)
				}
			}
		}
	}
	return items
}

// readMetric writes a metric as a receiver reads it: a line for the metric, and one for each of
// its values.
func readMetric(t testing.TB, m []byte) (lines []string) {
	t.Helper()
	name, unit := "", ""
	for _, f := range fieldsOf(t, m) {
		switch f.number {
		case metricName:
			name = string(f.bytes)
		case metricUnit:
			unit = string(f.bytes)
		case metricHelp:
		case metricGauge, metricSum, metricHistogram, metricQuantiles:
			kind := map[protowire.Number]string{metricGauge: "gauge", metricSum: "sum", metricHistogram: "histogram", metricQuantiles: "quantiles"}[f.number]
			for _, of := range fieldsOf(t, f.bytes) {
				switch {
				case of.number == anyPoints:
					lines = append(lines, readPoint(t, f.number, of.bytes))
				case of.number == anyTemporality && of.n == cumulative:
					kind += " cumulative"
				case of.number == sumMonotonic && f.number == metricSum && of.n == 1:
					kind += " monotonic"
				default:
					t.Errorf("%s has %d=%d", name, of.number, of.n)
				}
			}
			lines = append([]string{strings.TrimSpace(name + " " + kind + " " + unit)}, lines...)
		default:
			t.Errorf("a metric has a field %d", f.number)
		}
	}
	return lines
}

// readPoint writes a value as "{labels} start time value". Times are in seconds.
func readPoint(t testing.TB, kind protowire.Number, m []byte) string {
	t.Helper()
	labels, times, rest := map[string]string{}, "", ""
	names := map[protowire.Number]string{numberValue: "=", histogramSum: "sum="}
	attributes := protowire.Number(numberAttributes)
	if kind == metricHistogram {
		attributes = histogramAttributes
	}
	for _, f := range fieldsOf(t, m) {
		switch {
		case f.number == attributes:
			readAttribute(t, f.bytes, labels)
		case f.number == pointStart || f.number == pointTime:
			times += fmt.Sprint(" ", f.n/1e9)
		case kind == metricHistogram && f.number == histogramCount, kind == metricQuantiles && f.number == quantilesCount:
			rest += fmt.Sprint(" count=", f.n)
		case kind == metricHistogram && f.number == histogramCounts:
			rest += fmt.Sprint(" counts=", numbersOf(t, f.bytes, func(n uint64) any { return n }))
		case kind == metricHistogram && f.number == histogramBounds:
			rest += fmt.Sprint(" bounds=", numbersOf(t, f.bytes, func(n uint64) any { return math.Float64frombits(n) }))
		case kind == metricHistogram && f.number == histogramExemplars, kind == metricSum && f.number == numberExemplars:
			rest += " exemplar=["
			for _, e := range fieldsOf(t, f.bytes) {
				switch e.number {
				case exemplarTime:
					rest += fmt.Sprint(e.n/1e9, " ")
				case exemplarValue:
					rest += fmt.Sprint(math.Float64frombits(e.n))
				default:
					rest += fmt.Sprintf(" %d:%x", e.number, e.bytes)
				}
			}
			rest += "]"
		case kind == metricQuantiles && f.number == quantilesAll:
			q := fieldsOf(t, f.bytes)
			rest += fmt.Sprintf(" %v=%v", math.Float64frombits(q[0].n), math.Float64frombits(q[1].n))
		default:
			rest += fmt.Sprint(" ", names[f.number], math.Float64frombits(f.n))
		}
	}
	var shown []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		shown = append(shown, name+"="+labels[name])
	}
	return "{" + strings.Join(shown, " ") + "}" + times + rest
}

func numbersOf(t testing.TB, packed []byte, as func(uint64) any) (all []any) {
	t.Helper()
	for len(packed) > 0 {
		v, n := protowire.ConsumeFixed64(packed)
		if n < 0 {
			t.Fatal("numbers end in the middle of one")
		}
		all, packed = append(all, as(v)), packed[n:]
	}
	return all
}

// readLine writes a line of the log as a receiver reads it, with its attributes in order.
func readLine(t testing.TB, m []byte) string {
	t.Helper()
	text := ""
	for _, f := range fieldsOf(t, m) {
		switch f.number {
		case lineTime:
			text += strconv.FormatUint(f.n, 10)
		case lineObserved:
		case lineSeverity:
			text += fmt.Sprint(" ", f.n)
		case lineSeverityName, lineBody:
			value := f.bytes
			if f.number == lineBody {
				value = fieldsOf(t, f.bytes)[0].bytes
			}
			text += " " + string(value)
		case lineAttributes:
			pair := fieldsOf(t, f.bytes)
			v := fieldsOf(t, pair[1].bytes)[0]
			text += " " + string(pair[0].bytes) + "="
			switch v.number {
			case textValue:
				text += strconv.Quote(string(v.bytes))
			case boolValue:
				text += strconv.FormatBool(v.n == 1)
			case intValue:
				text += strconv.FormatInt(int64(v.n), 10)
			case doubleValue:
				text += fmt.Sprint(math.Float64frombits(v.n))
			}
		case lineTrace, lineSpan:
			text += fmt.Sprintf(" %d:%x", f.number, f.bytes)
		default:
			t.Errorf("a line has a field %d", f.number)
		}
	}
	return text
}
