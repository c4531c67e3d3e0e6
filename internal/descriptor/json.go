package descriptor

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// maxDepth is how many levels a message may have as JSON, in both directions. Each message
// is a level, and so is each object and list in a google.protobuf.Value or in an unknown
// field. It is the limit of protobuf's own parsers in most languages. ReadCost and
// WriteCost hold it.
const maxDepth = 100

// maxParsed is what protobuf-go's parsers may count in a message of maxDepth levels: an
// object in a Value is three messages in the wire form, and a message in a list is two
// brackets in JSON.
const maxParsed = 3*maxDepth + 3

// maxInAny is how deeply messages in Any may be nested, in both directions. For each
// Any around a message, protojson reads and writes the message once more.
const maxInAny = 8

var tooDeepInAny = fmt.Sprintf("messages in google.protobuf.Any are nested more than %d deep", maxInAny)

// A JSON converts messages. The fields say in which form.
type JSON struct {
	RejectUnknown bool // fields and names of enum values, in JSON that is read

	ProtoNames  bool // the fields' names as the definition has them, in place of lowerCamelCase
	EnumNumbers bool // numbers in place of names
	Defaults    bool // fields with their default values, which are left out otherwise
}

// A ReadError says why a text isn't a message.
type ReadError struct {
	Text         string // without the place
	Line, Column int    // from 1; 0: unknown
	Path         string // of the field: "items[2].price"; "": the message itself
}

func (e *ReadError) Error() string {
	text := e.Text
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Line > 0 {
		text = fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, text)
	}
	return text
}

// A WriteError says why JSON can't have a message that is as its type says.
type WriteError struct {
	Text        string
	UnknownType bool // of an Any
}

func (e *WriteError) Error() string { return e.Text }

// Read returns the message of a JSON text in the wire form of protobuf, and notes the names
// that the descriptors don't have. An error about the text is a *ReadError. ReadCost must
// have returned no error for the text.
func (j JSON) Read(of Message, text []byte, unknown *Unknowns) (wire []byte, err error) {
	defer func() { // as in Write: by the descriptors of a program that nobody trusts
		if p := recover(); p != nil {
			wire, err = nil, fmt.Errorf("a %s can't be read from JSON: %v", of.Name(), p)
		}
	}()
	if at, ok := invalidUTF8(text); ok {
		return nil, readErrorAt(text, at, "isn't valid UTF-8")
	}
	*unknown = Unknowns{types: of.set.types}
	m := dynamicpb.NewMessage(of.descriptor)
	err = protojson.UnmarshalOptions{DiscardUnknown: !j.RejectUnknown, Resolver: unknown, RecursionLimit: maxParsed}.Unmarshal(text, m)
	if err != nil {
		mistake := newReadError(text, err)
		if unknown.Type != "" {
			mistake.Text = unknownType(unknown.Type)
		}
		return nil, mistake
	}
	wire, err = proto.Marshal(m)
	if err != nil {
		return nil, &ReadError{Text: withoutPrefix(err)}
	}
	return wire, nil
}

// invalidUTF8 returns the offset of the first byte that isn't UTF-8.
func invalidUTF8(text []byte) (at int, found bool) {
	if utf8.Valid(text) {
		return 0, false
	}
	for at < len(text) {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		at += n
	}
	return at, true
}

// Write appends to b the JSON text of a message in the wire form of protobuf, and notes the
// names that the descriptors don't have. WriteCost must have returned no error for the
// message. An error is a *WriteError, or says that the bytes aren't a message of the type.
func (j JSON) Write(b []byte, of Message, wire []byte, unknown *Unknowns) (text []byte, err error) {
	// The entry of a map may have its key twice. If the second has another wire type,
	// proto.Unmarshal of a dynamic message panics, also in an Any.
	defer func() {
		if p := recover(); p != nil {
			text, err = nil, fmt.Errorf("a message isn't a %s: %v", of.Name(), p)
		}
	}()
	*unknown = Unknowns{types: of.set.types}
	m := dynamicpb.NewMessage(of.descriptor)
	if err := (proto.UnmarshalOptions{Resolver: unknown, AllowPartial: true, RecursionLimit: maxParsed}).Unmarshal(wire, m); err != nil {
		return nil, fmt.Errorf("a message isn't a %s: %w", of.Name(), errors.New(withoutPrefix(err)))
	}
	text, err = protojson.MarshalOptions{
		AllowPartial: true, UseProtoNames: j.ProtoNames, UseEnumNumbers: j.EnumNumbers, EmitUnpopulated: j.Defaults, Resolver: unknown,
	}.MarshalAppend(b, m)
	if err != nil {
		if unknown.Type != "" {
			return nil, &WriteError{unknownType(unknown.Type), true}
		}
		return nil, &WriteError{Text: cut(withoutPrefix(err))}
	}
	return text, nil
}
