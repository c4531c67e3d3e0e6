package descriptor

import (
	"errors"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// A WireField is a field of a message in the wire form. Its value is still encoded, but
// has no length before it.
type WireField struct {
	Number protowire.Number
	Kind   protowire.Type
	Value  []byte
}

// WireFields yields the fields of a message. Where the bytes are no message, it yields no
// field but an error, and ends.
func WireFields(wire []byte) iter.Seq2[WireField, error] {
	return func(yield func(WireField, error) bool) {
		for len(wire) > 0 {
			number, kind, tag := protowire.ConsumeTag(wire)
			size := protowire.ConsumeFieldValue(number, kind, wire[max(tag, 0):])
			if tag < 0 || size < 0 {
				yield(WireField{}, errors.New("the message is malformed"))
				return
			}
			value := wire[tag : tag+size]
			if kind == protowire.BytesType {
				value, _ = protowire.ConsumeBytes(value)
			}
			if !yield(WireField{number, kind, value}, nil) {
				return
			}
			wire = wire[tag+size:]
		}
	}
}
