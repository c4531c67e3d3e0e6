package check

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
	"github.com/culvert-grpc/culvert/codec"
)

// The bounds of an answer, over everything that it changes. They leave room for a signed
// identity of a few KiB, and none for an answer that makes the backend refuse the call.
const (
	maxEdits     = 64
	maxEditBytes = 16 << 10
	maxBackend   = 128
	maxSubject   = 256
)

// names are the rules for the names of metadata that answers change.
type names struct {
	request  func(name string) bool // reserved on the way to the backend
	response func(name string) bool // reserved on the way to the client
	own      Edits                  // what the service alone may set is removed first
}

// A draft collects what an answer changes, and stops at the first thing that it may not.
// Its errors name what is wrong and never the value.
type draft struct {
	edits, bytes int
}

// add checks an edit, decodes its value, and appends it to edits.
func (d *draft) add(edits *Edits, reserved func(string) bool, name, value string, action Action) error {
	shown := fmt.Sprintf("%.64q", name)
	name = ask.Lower(name)
	switch {
	case !codec.ValidName(name):
		return fmt.Errorf("the name %s, which can't name metadata", shown)
	case reserved(name):
		return fmt.Errorf("the name %s, which is reserved", shown)
	}
	if d.edits++; d.edits > maxEdits {
		return fmt.Errorf("more than %d changes of metadata", maxEdits)
	}
	if d.bytes += codec.FieldBytes(name, value); d.bytes > maxEditBytes {
		return fmt.Errorf("more than %d bytes of metadata", maxEditBytes)
	}
	values, err := decoded(name, value)
	if err != nil {
		return fmt.Errorf("for %s a value that %w", shown, err)
	}
	for _, v := range values {
		*edits = append(*edits, Edit{name, v, action})
		if action == Set {
			action = Append // the further values of the same field
		}
	}
	return nil
}

// decoded returns the values that a field has as metadata: a -bin field may have several.
func decoded(name, value string) ([]string, error) {
	if !codec.ValidValue(value) {
		return nil, errIllegal
	}
	if !strings.HasSuffix(name, "-bin") {
		return []string{value}, nil
	}
	md, err := codec.DecodeMetadata(map[string][]string{name: {value}})
	if err != nil {
		return nil, errNotBase64
	}
	if len(md[name]) > maxEdits {
		return nil, errParts
	}
	return md[name], nil
}

var (
	errIllegal   = errors.New("has other bytes than printable ASCII")
	errNotBase64 = errors.New("isn't base64, as -bin names want it")
	errParts     = errors.New("has too many parts")
)

// word checks a single word of an answer, such as the name of a backend.
func word(what, value string, limit int, hidden secrets) error {
	switch {
	case len(value) > limit:
		return fmt.Errorf("a %s of %d bytes, over the limit of %d", what, len(value), limit)
	case !codec.ValidValue(value):
		return fmt.Errorf("a %s that %w", what, errIllegal)
	case strings.Trim(value, " ") != value || value == "":
		return fmt.Errorf("a %s that is empty, or has blanks around it", what)
	case hidden.in(value):
		return fmt.Errorf("a %s that repeats the call's credential", what)
	}
	return nil
}

// refusedHeader collects the header of a refused call. The call is refused in any case, so
// what can't pass is left out.
type refusedHeader struct {
	md metadata.MD
	draft
}

func (h *refusedHeader) add(reserved func(string) bool, hidden secrets, name, value string, action Action) {
	if hidden.in(value) {
		return
	}
	var edits Edits
	if h.draft.add(&edits, reserved, name, value, action) != nil {
		return
	}
	if h.md == nil {
		h.md = make(metadata.MD)
	}
	edits.Apply(h.md)
}
