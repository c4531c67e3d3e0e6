package telemetry

import (
	"encoding/hex"
	"fmt"
	"strconv"
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
