package telemetry

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Fields are attributes that the operator adds to the lines of calls. The zero value is
// none. ParseFields makes others.
type Fields struct{ names []string }

// ParseFields returns the fields with the names: "host", "user_agent", or request metadata
// such as "metadata.x-tenant". It refuses names of metadata that may hold a secret.
func ParseFields(names []string) (Fields, error) {
	if len(names) > rules.MaxLogFields {
		return Fields{}, fmt.Errorf("%d fields for the lines of calls: there may be %d", len(names), rules.MaxLogFields)
	}
	for _, name := range names {
		if err := rules.CheckLogField(name); err != nil {
			return Fields{}, fmt.Errorf("field for the lines of calls: %q %w", name, err)
		}
	}
	return Fields{slices.Clone(names)}, nil
}

// SetFields replaces the fields, for calls that begin from now on.
func (o *Log) SetFields(f Fields) {
	if len(f.names) == 0 {
		o.fields.Store(nil)
		return
	}
	o.fields.Store(&f)
}

// callWithFields is the report.CallObserver of a call that has values of fields.
type callWithFields struct {
	call
	fields []slog.Attr
}

// keptBytes returns how much memory the values of a call's fields take until its end.
func keptBytes(fields []slog.Attr) int32 {
	const observer, attr = 32, 40 // what a callWithFields and a slog.Attr take
	n := observer + attr*cap(fields)
	for _, f := range fields {
		n += len(f.Value.String())
	}
	return int32(n) // the number and the length of values are bounded
}

// Ended writes the call's line.
func (o *callWithFields) Ended(c *report.CallInfo) { o.Log.ended(c, o.fields) }

// of returns the values that a call has of the fields. A call without any has nil.
func (f *Fields) of(c *report.CallInfo, md metadata.MD) (attrs []slog.Attr) {
	for _, field := range f.names {
		value := ""
		switch field {
		case "host":
			value = bounded(c.Authority)
		case "user_agent":
			value = boundedList(md["x-forwarded-user-agent"])
		default:
			value = boundedList(md[field[len(rules.LogMetadata):]])
		}
		if value == "" {
			continue
		}
		if attrs == nil {
			attrs = make([]slog.Attr, 0, len(f.names))
		}
		attrs = append(attrs, slog.String(field, value))
	}
	return attrs
}

// boundedList returns the values of metadata in the length for a line. It keeps none of
// their memory, which may be that of a whole header.
func boundedList(values []string) string {
	if len(values) == 1 && len(values[0]) <= rules.MaxLogValueBytes {
		return strings.Clone(values[0])
	}
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v[:min(len(v), rules.MaxLogValueBytes+1)])
		if b.Len() > rules.MaxLogValueBytes {
			break
		}
	}
	return bounded(b.String())
}
