package check

import (
	"slices"

	"google.golang.org/grpc/metadata"
)

// An Answer permits a call. The zero value changes nothing about it. Answers may be shared
// by several calls: its fields must not be changed.
type Answer struct {
	Request  Edits // of the call's metadata
	Response Edits // of the header that the client gets with the backend's answer

	// Backend is the name of the backend that the service chose, empty if it chose none. It
	// is at most 128 bytes of printable ASCII, and nothing else is known about it: the caller
	// must find it among the route's configured backends, and refuse the call otherwise.
	Backend string

	// Subject is who calls by the service's word, or empty: at most 256 bytes, printable ASCII.
	Subject string

	Cached bool // the service wasn't asked for this call. Of a permission only if it is from the cache

	// Open is nil for a call that the service permitted. Otherwise nobody judged the call,
	// Options.FailOpen let it pass, and this is the cause for the log.
	Open error
}

// An Action is what an Edit does with the values that a name has.
type Action int

// The actions, as HeaderValueOption.HeaderAppendAction has them.
const (
	Set         Action = iota // replace all values, or add the name
	Append                    // add behind the values, or add the name
	AddIfAbsent               // add the name, unless it is there
	SetIfExists               // replace all values, if the name is there
	Remove                    // remove the name
)

// An Edit is one change of metadata. Value is raw bytes if the name ends in -bin.
type Edit struct {
	Name, Value string
	Action      Action
}

// Edits are changes in their order.
type Edits []Edit

// Apply changes md. It never writes into the value slices that md had.
func (e Edits) Apply(md metadata.MD) {
	e.ApplyBy(md, func(name string, values ...string) { md[name] = values }, func(name string) { delete(md, name) })
}

// ApplyBy has the functions change md.
func (e Edits) ApplyBy(md metadata.MD, set func(name string, values ...string), remove func(name string)) {
	for _, edit := range e {
		old, there := md[edit.Name]
		switch {
		case edit.Action == Remove:
			remove(edit.Name)
		case edit.Action == Append && there:
			set(edit.Name, append(slices.Clip(old), edit.Value)...)
		case edit.Action == AddIfAbsent && there, edit.Action == SetIfExists && !there:
		default:
			set(edit.Name, edit.Value)
		}
	}
}

// bytes returns what the answer holds, for the cache's bound.
func (a *Answer) bytes() int {
	n := len(a.Backend) + len(a.Subject)
	for _, edits := range []Edits{a.Request, a.Response} {
		for _, e := range edits {
			n += len(e.Name) + len(e.Value) + editOverhead
		}
	}
	return n
}

const editOverhead = 48 // an Edit in memory, without its strings' bytes
