package descriptor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// ReadCost estimates how many bytes Read takes beside the text. Unknown fields take none:
// Read skips them. An error is a *ReadError: the text is nested too deeply for Read.
func (j JSON) ReadCost(of Message, text []byte) (int, error) {
	r := reading{set: of.set, text: text, reject: j.RejectUnknown, memory: 3 * len(text)}
	r.message(of.descriptor, maxDepth, false)
	if r.tooDeep != "" {
		return 0, readErrorAt(text, min(r.at, len(text)), r.tooDeep)
	}
	return r.memory, nil
}

// A reading goes through a text as protojson does, and adds up what the parts take. It
// takes more texts for JSON than protojson does. Its methods return false where Read fails
// at the latest: the text behind that place takes nothing.
type reading struct {
	set     *Set
	text    []byte
	at      int
	reject  bool // unknown fields
	memory  int
	anys    int    // the Any around this place
	tooDeep string // why Read must not be called
}

// next returns the first byte of the next token, or 0 at the end.
func (r *reading) next() byte {
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			return c
		}
	}
	return 0
}

// passes reports whether a bracket of an object or a list is next, and passes it.
func (r *reading) passes(bracket byte) bool {
	if r.next() != bracket {
		return false
	}
	r.at++
	return true
}

// quoted passes a string, and returns it with its quotes.
func (r *reading) quoted() []byte {
	start := r.at
	r.at += 1 + lengthOfString(r.text[r.at+1:])
	return r.text[start:r.at]
}

// key passes the key of an object, and returns it. ok is false at anything else.
func (r *reading) key() (key string, ok bool) {
	if r.next() != '"' {
		return "", false
	}
	return unquoted(r.quoted())
}

// unquoted returns the text of a string. ok is false if it isn't one.
func unquoted(b []byte) (text string, ok bool) {
	if len(b) < 2 {
		return "", false
	}
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b[1 : len(b)-1]), true
	}
	return text, json.Unmarshal(b, &text) == nil
}

// scalar passes a value that is neither an object nor a list, and returns it.
func (r *reading) scalar() ([]byte, bool) {
	switch r.next() {
	case 0, '{', '}', '[', ']':
		return nil, false
	case '"':
		return r.quoted(), true
	}
	start := r.at
	for ; r.at < len(r.text); r.at++ {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n', ',', ':', '{', '}', '[', ']', '"':
			return r.text[start:r.at], true
		}
	}
	return r.text[start:], true
}

// skip passes any value, as Read passes that of an unknown field. Each object or list in it
// is a level.
func (r *reading) skip(levels int) bool {
	if c := r.next(); c != '{' && c != '[' {
		_, ok := r.scalar()
		return ok
	}
	for depth := 0; r.at < len(r.text); r.at++ {
		switch r.text[r.at] {
		case '"':
			r.at += lengthOfString(r.text[r.at+1:])
		case '{', '[':
			if depth++; depth > levels {
				return r.deep()
			}
		case '}', ']':
			if depth--; depth == 0 {
				r.at++
				return true
			}
		}
	}
	return false
}

var tooDeep = fmt.Sprintf("is nested more than %d levels deep", maxDepth)

func (r *reading) deep() bool {
	r.tooDeep = tooDeep
	return false
}

// message passes a message. inAny: it has a member "@type", which isn't a field.
func (r *reading) message(d protoreflect.MessageDescriptor, levels int, inAny bool) bool {
	if levels--; levels < 0 {
		return r.deep()
	}
	return r.content(d, levels, inAny)
}

// content passes a message that isn't a level of its own.
func (r *reading) content(d protoreflect.MessageDescriptor, levels int, inAny bool) bool {
	r.memory += messageCost
	switch formOf(d) {
	case formAny:
		return r.any(levels)
	case formStruct:
		return r.mapping(d.Fields().ByNumber(1), levels)
	case formList:
		return r.list(d.Fields().ByNumber(1), levels)
	case formValue:
		return r.free(d, levels)
	case formText:
		r.memory += fieldCost + 2*memberCost
		text, ok := r.scalar()
		if d.Name() == "FieldMask" {
			r.memory += listCost + (1+bytes.Count(text, []byte(",")))*valueCost
		}
		return ok
	default:
		return r.fields(d, levels, inAny)
	}
}

// fields passes the object of a message.
func (r *reading) fields(d protoreflect.MessageDescriptor, levels int, inAny bool) bool {
	if !r.passes('{') {
		return false
	}
	for first := true; !r.passes('}'); {
		key, ok := r.key()
		if !ok {
			return false
		}
		f := r.field(d, key)
		switch {
		case inAny && key == "@type":
			_, ok = r.scalar()
		case f == nil:
			ok = !r.reject && r.skip(levels)
		case r.next() == 'n' && (f.Message() == nil || formOf(f.Message()) != formValue):
			_, ok = r.scalar() // null
		case f.IsList():
			ok = r.list(f, levels)
		case f.IsMap():
			ok = r.mapping(f, levels)
		default:
			r.memory += memberCost
			ok = r.value(f, levels)
		}
		if !ok {
			return false
		}
		if f != nil && first {
			r.memory += fieldCost
			first = false
		}
	}
	return true
}

// field returns the field that a key names, or nil.
func (r *reading) field(d protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if n := len(key); n > 1 && key[0] == '[' && key[n-1] == ']' {
		x, err := r.set.types.FindExtensionByName(protoreflect.FullName(key[1 : n-1]))
		if err != nil {
			return nil
		}
		return x.TypeDescriptor()
	}
	return fieldOf(d, key)
}

// value passes one value of a field.
func (r *reading) value(f protoreflect.FieldDescriptor, levels int) bool {
	if of := f.Message(); of != nil {
		return r.message(of, levels, false)
	}
	_, ok := r.scalar()
	return ok
}

// list passes the values of a field, which may be nil in a type that has a false name.
func (r *reading) list(f protoreflect.FieldDescriptor, levels int) bool {
	if f == nil || !r.passes('[') {
		return false
	}
	r.memory += listCost + fieldCost
	for !r.passes(']') {
		r.memory += valueCost
		if !r.value(f, levels) {
			return false
		}
	}
	return true
}

// mapping passes the entries of a map, which may be nil in a type that has a false name.
func (r *reading) mapping(f protoreflect.FieldDescriptor, levels int) bool {
	if f == nil || !f.IsMap() || !r.passes('{') {
		return false
	}
	r.memory += mapCost + fieldCost
	for !r.passes('}') {
		r.memory += memberCost
		if _, ok := r.key(); !ok || !r.value(f.MapValue(), levels) {
			return false
		}
	}
	return true
}

// free passes a google.protobuf.Value. Its objects and lists are messages in protobuf, but
// one level in JSON.
func (r *reading) free(d protoreflect.MessageDescriptor, levels int) bool {
	r.memory += fieldCost + memberCost
	inside := protoreflect.FieldNumber(0)
	switch r.next() {
	case '{':
		inside = 5
	case '[':
		inside = 6
	default:
		_, ok := r.scalar()
		return ok
	}
	f := d.Fields().ByNumber(inside)
	return f != nil && f.Message() != nil && formOf(f.Message()) != formValue && r.content(f.Message(), levels, false)
}

// any passes a google.protobuf.Any, and the message in it, which becomes bytes.
func (r *reading) any(levels int) bool {
	start := r.at
	url, ok := r.typeInAny()
	r.at = start
	if !ok {
		return false
	}
	if url == "" {
		return !r.reject && r.skip(levels)
	}
	of, err := r.set.types.FindMessageByURL(url)
	if err != nil {
		return false
	}
	if r.anys == maxInAny {
		r.tooDeep = tooDeepInAny
		return false
	}
	r.anys++
	defer func() { r.anys-- }()
	r.memory += fieldCost + 2*memberCost
	if formOf(of.Descriptor()) == formOwn {
		ok = r.message(of.Descriptor(), levels, true)
	} else {
		ok = r.valueInAny(of.Descriptor(), levels)
	}
	r.memory += 2 * (r.at - start)
	return ok
}

// typeInAny returns the value of "@type", which may come last.
func (r *reading) typeInAny() (url string, ok bool) {
	if !r.passes('{') {
		return "", false
	}
	for !r.passes('}') {
		key, ok := r.key()
		switch {
		case !ok:
		case key != "@type":
			ok = r.skip(math.MaxInt)
		default:
			text, _ := r.scalar() // nil isn't quoted
			url, ok = unquoted(text)
		}
		if !ok {
			return "", false
		}
	}
	return url, true
}

// valueInAny passes an Any with a type that has a form of its own, which is in "value".
func (r *reading) valueInAny(d protoreflect.MessageDescriptor, levels int) bool {
	r.passes('{')
	for !r.passes('}') {
		key, ok := r.key()
		switch {
		case !ok:
		case key == "@type":
			_, ok = r.scalar()
		case key == "value":
			ok = r.content(d, levels, false)
		default:
			ok = !r.reject && r.skip(levels)
		}
		if !ok {
			return false
		}
	}
	return true
}
