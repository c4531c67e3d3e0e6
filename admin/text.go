package admin

import (
	"encoding/json"
	"strings"

	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A Text may come from a peer, and may be of any length and bytes. In JSON it has at most
// maxText bytes and an ellipsis, and is UTF-8.
type Text string

const maxText = 512

// MarshalText implements encoding.TextMarshaler. As a json.Marshaler, it would have each text
// written, checked and copied, which takes twice as long.
func (t Text) MarshalText() ([]byte, error) { return []byte(Bounded(string(t))), nil }

// Bounded returns text in the length that the pages show, and in memory of its own if it is
// longer: whoever keeps it keeps no more.
func Bounded(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// encode returns JSON without characters that a terminal acts on, or that make text read as
// another one.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer is no JSON: " + err.Error())
	}
	return append(terminal.AppendJSON(make([]byte, 0, len(text)+1), text), '\n')
}
