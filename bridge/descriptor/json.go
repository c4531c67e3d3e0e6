package descriptor

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// maxDepth is how deeply the objects and lists of a message may be nested. It is the
// limit of protobuf's own parsers in most languages.
const maxDepth = 100

// A JSON converts messages. The zero value is canonical proto3 JSON that ignores unknown
// fields, so that clients and servers may differ in their versions.
// https://protobuf.dev/programming-guides/json/
type JSON struct {
	RejectUnknown bool // fields and names of enum values, in what is read

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

// Read returns the message of a JSON text in the wire form of protobuf. An error about
// the text is a *ReadError.
func (j JSON) Read(of Message, text []byte) ([]byte, error) {
	if at, ok := invalidUTF8(text); ok {
		return nil, readErrorAt(text, at, "isn't valid UTF-8")
	}
	if deepInAny(text) {
		return nil, &ReadError{Text: fmt.Sprintf("messages in google.protobuf.Any are nested more than %d deep", maxInAny)}
	}
	m := dynamicpb.NewMessage(of.descriptor)
	err := protojson.UnmarshalOptions{DiscardUnknown: !j.RejectUnknown, Resolver: of.set.types, RecursionLimit: maxDepth}.Unmarshal(text, m)
	if err != nil {
		return nil, newReadError(text, err)
	}
	wire, err := proto.Marshal(m)
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

// Write appends to b the JSON text of a message in the wire form of protobuf.
func (j JSON) Write(b []byte, of Message, wire []byte) (text []byte, err error) {
	// The entry of a map may have its key twice. If the second has another wire type,
	// proto.Unmarshal of a dynamic message panics, also in an Any.
	defer func() {
		if p := recover(); p != nil {
			text, err = nil, fmt.Errorf("a message isn't a %s: %v", of.Name(), p)
		}
	}()
	m := dynamicpb.NewMessage(of.descriptor)
	if err := (proto.UnmarshalOptions{Resolver: of.set.types, AllowPartial: true, RecursionLimit: maxDepth}).Unmarshal(wire, m); err != nil {
		return nil, fmt.Errorf("a message isn't a %s: %w", of.Name(), errors.New(withoutPrefix(err)))
	}
	text, err = protojson.MarshalOptions{
		AllowPartial: true, UseProtoNames: j.ProtoNames, UseEnumNumbers: j.EnumNumbers, EmitUnpopulated: j.Defaults, Resolver: of.set.types,
	}.MarshalAppend(b, m)
	if err != nil {
		return nil, fmt.Errorf("a %s can't be written as JSON: %w", of.Name(), errors.New(withoutPrefix(err)))
	}
	return text, nil
}
