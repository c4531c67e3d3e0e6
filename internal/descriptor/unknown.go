package descriptor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// A message may use types and extensions that its file doesn't import: it names the type of
// a message in an Any, and extensions by name in JSON and by number in the wire form. A
// conversion notes those that it doesn't find, so that the caller can fetch their
// descriptors and convert the message again.

// An Unknown is a type or an extension that a message uses and descriptors don't have.
type Unknown struct {
	Name string // of a message type in an Any, or of an extension in JSON

	// Extends and Number are those of an extension in the wire form. Name is empty then.
	Extends string
	Number  int32
}

func (u Unknown) String() string {
	if u.Extends != "" {
		return fmt.Sprintf("the extension %d of %s", u.Number, u.Extends)
	}
	return readable(u.Name)
}

// Named are the descriptors of types and extensions that messages name and the files of
// services don't import. The zero value is empty. Several goroutines may use it.
type Named struct{ now atomic.Pointer[namedSets] }

type namedSets struct {
	sets  []*Set
	until time.Time
}

// Put replaces the sets. Nobody has them after the given time. The zero time is never.
func (n *Named) Put(sets []*Set, until time.Time) { n.now.Store(&namedSets{sets, until}) }

// With notes the named types, for Message.Now. It is called before the Set is used.
func (s *Set) With(n *Named) { s.types.named = n }

// Now returns the type with the named ones of this moment. The estimate of a conversion and the
// conversion itself must know the same types.
func (m Message) Now() Message {
	if n := m.set.types.named; n != nil {
		if now := n.now.Load(); now != nil && len(now.sets) > 0 && (now.until.IsZero() || time.Now().Before(now.until)) {
			set := *m.set
			set.types.now = now.sets
			m.set = &set
		}
	}
	return m
}

// types are the types of a Set, then protobuf's own, then the named ones: a
// protoregistry.MessageTypeResolver and an ExtensionTypeResolver.
type types struct {
	*dynamicpb.Types
	named *Named
	now   []*Set // of named
}

var ownTypesByName = func() *dynamicpb.Types {
	files := new(protoregistry.Files)
	for _, f := range ownFiles {
		if err := files.RegisterFile(f); err != nil {
			panic("BUG: protobuf-go's own files: " + err.Error())
		}
	}
	return dynamicpb.NewTypes(files)
}()

// find returns the first result of a function that isn't an error.
func find[T any](t types, by func(*dynamicpb.Types) (T, error)) (found T, err error) {
	if t.Types == nil { // of a Set without files
		return found, protoregistry.NotFound
	}
	if found, err = by(t.Types); err == nil {
		return found, nil
	}
	if found, own := by(ownTypesByName); own == nil {
		return found, nil
	}
	for _, s := range t.now {
		if found, other := by(s.types.Types); other == nil {
			return found, nil
		}
	}
	return found, err
}

func (t types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	return find(t, func(in *dynamicpb.Types) (protoreflect.MessageType, error) { return in.FindMessageByName(name) })
}

func (t types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return t.FindMessageByName(nameInURL(url))
}

func (t types) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	return find(t, func(in *dynamicpb.Types) (protoreflect.ExtensionType, error) { return in.FindExtensionByName(name) })
}

func (t types) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	return find(t, func(in *dynamicpb.Types) (protoreflect.ExtensionType, error) {
		return in.FindExtensionByNumber(message, number)
	})
}

func nameInURL(url string) protoreflect.FullName {
	return protoreflect.FullName(url[strings.LastIndexByte(url, '/')+1:])
}

func (t types) has(u Unknown) bool {
	if u.Extends != "" {
		_, err := t.FindExtensionByNumber(protoreflect.FullName(u.Extends), protoreflect.FieldNumber(u.Number))
		return err == nil
	}
	_, notMessage := t.FindMessageByName(protoreflect.FullName(u.Name))
	_, notExtension := t.FindExtensionByName(protoreflect.FullName(u.Name))
	return notMessage == nil || notExtension == nil
}

// Unknowns are the types and extensions that a conversion didn't find. Without the type of
// an Any a conversion fails; it leaves unknown extensions out.
type Unknowns struct {
	types types
	Found []Unknown // the first ones
	Type  string    // without which the conversion failed; empty: none
}

// unknownType is the text of an error about the type of an Any.
func unknownType(name string) string {
	return "the type " + readable(name) + " of a google.protobuf.Any is unknown: the backend's descriptors don't have it"
}

// maxUnknowns is how many a conversion notes.
const maxUnknowns = 8

func (n *Unknowns) note(u Unknown) {
	name := protoreflect.FullName(u.Name + u.Extends)
	if len(n.Found) < maxUnknowns && len(name) <= maxName && name.IsValid() && !slices.Contains(n.Found, u) {
		n.Found = append(n.Found, u)
	}
}

// FindMessageByName implements protoregistry.MessageTypeResolver.
func (n *Unknowns) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	found, err := n.types.FindMessageByName(name)
	if err != nil {
		n.Type = string(name)
		n.note(Unknown{Name: n.Type})
	}
	return found, err
}

// FindMessageByURL implements protoregistry.MessageTypeResolver.
func (n *Unknowns) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	return n.FindMessageByName(nameInURL(url))
}

// FindExtensionByName implements protoregistry.ExtensionTypeResolver.
func (n *Unknowns) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	found, err := n.types.FindExtensionByName(name)
	if errors.Is(err, protoregistry.NotFound) {
		n.note(Unknown{Name: string(name)})
	}
	return found, err
}

// FindExtensionByNumber implements protoregistry.ExtensionTypeResolver.
func (n *Unknowns) FindExtensionByNumber(message protoreflect.FullName, number protoreflect.FieldNumber) (protoreflect.ExtensionType, error) {
	found, err := n.types.FindExtensionByNumber(message, number)
	if err != nil {
		n.note(Unknown{Extends: string(message), Number: int32(number)})
	}
	return found, err
}
