package call

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// explore does "list [service]" and "describe [symbol]".
func (c *caller) explore(ctx context.Context, words []string) error {
	if len(words) > 2 {
		return misuse("%q is one word too many: write URL %s, and at most one name", words[2], words[0])
	}
	if bare(c.via) {
		return misuse("--via %s has no descriptors: use another way for %s", c.via, words[0])
	}
	if c.cfg.Data != nil {
		return misuse("-d: %s sends no message", words[0])
	}
	if c.via == viaConnectJSON {
		c.via = viaConnect
	}
	var w way
	if len(c.cfg.ProtoSets) == 0 {
		var err error
		if w, _, err = c.open(ctx); err != nil {
			return c.failed(ctx, err)
		}
		defer w.close()
	}
	b, err := c.newBook(w)
	if err != nil {
		return err
	}
	names := words[1:]
	if words[0] == "list" && len(names) == 0 {
		return c.failed(ctx, b.listServices(ctx))
	}
	if len(names) == 0 {
		if names, err = b.services(ctx); err != nil {
			return c.failed(ctx, err)
		}
	}
	for i, name := range names {
		name = strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")
		if err := b.find(ctx, name); err != nil {
			return c.failed(ctx, err)
		}
		d := b.set.Find(name)
		if words[0] == "list" {
			err = b.listMethods(d)
		} else {
			err = b.describe(d, i > 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *book) listServices(ctx context.Context) error {
	names, err := b.services(ctx)
	for _, name := range names {
		if err := b.c.out.either(name+"\n", map[string]string{"service": name}); err != nil {
			return err
		}
	}
	return err
}

// listMethods lists the methods of a service as a call names them.
func (b *book) listMethods(d protoreflect.Descriptor) error {
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return fmt.Errorf("%s is no service: describe shows it", d.FullName())
	}
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		name := string(s.FullName()) + "/" + string(m.Name())
		if err := b.c.out.either(name+"\n", map[string]any{
			"method": name, "request": m.Input().FullName(), "reply": m.Output().FullName(),
			"clientStreams": m.IsStreamingClient(), "serverStreams": m.IsStreamingServer(),
		}); err != nil {
			return err
		}
	}
	return nil
}

// describe prints a symbol as its source would have it, without comments: servers have none. A
// method comes with its messages, and what can be sent with an example for -d.
func (b *book) describe(d protoreflect.Descriptor, blank bool) error {
	var text strings.Builder
	if blank {
		text.WriteByte('\n')
	}
	fmt.Fprintf(&text, "// %s in %s\n%s", d.FullName(), d.ParentFile().Path(), source(d))
	request, isMessage := d.(protoreflect.MessageDescriptor)
	if m, ok := d.(protoreflect.MethodDescriptor); ok {
		for _, of := range slices.Compact([]protoreflect.MessageDescriptor{m.Input(), m.Output()}) {
			fmt.Fprintf(&text, "\n%s", source(of))
		}
		request, isMessage = m.Input(), true
	}
	if isMessage {
		fmt.Fprintf(&text, "\n// -d '%s'\n", sample(request))
	}
	return b.c.out.either(text.String(), map[string]string{"name": string(d.FullName()), "file": d.ParentFile().Path(), "source": source(d)})
}

// source returns a declaration in protobuf's language.
func source(d protoreflect.Descriptor) string {
	var s sourceText
	s.declare(d)
	return s.String()
}

// A sourceText is the source of declarations.
type sourceText struct {
	strings.Builder
	depth int
}

func (s *sourceText) line(format string, args ...any) {
	fmt.Fprintf(s, "%s%s\n", strings.Repeat("  ", s.depth), fmt.Sprintf(format, args...))
}

// block writes a block, whose inside the function writes.
func (s *sourceText) block(inside func(), format string, args ...any) {
	s.line(format+" {", args...)
	s.depth++
	inside()
	s.depth--
	s.line("}")
}

func (s *sourceText) declare(d protoreflect.Descriptor) {
	switch d := d.(type) {
	case protoreflect.ServiceDescriptor:
		s.block(func() {
			for i := range d.Methods().Len() {
				s.method(d.Methods().Get(i))
			}
		}, "service %s", d.Name())
	case protoreflect.MethodDescriptor:
		s.method(d)
	case protoreflect.MessageDescriptor:
		s.block(func() { s.message(d) }, "message %s", d.Name())
	case protoreflect.EnumDescriptor:
		s.block(func() {
			for i := range d.Values().Len() {
				s.line("%s = %d;", d.Values().Get(i).Name(), d.Values().Get(i).Number())
			}
		}, "enum %s", d.Name())
	case protoreflect.EnumValueDescriptor:
		s.line("%s = %d;", d.Name(), d.Number())
	case protoreflect.OneofDescriptor:
		s.oneof(d)
	case protoreflect.FieldDescriptor:
		if !d.IsExtension() {
			s.field(d)
			return
		}
		s.block(func() { s.field(d) }, "extend %s", d.ContainingMessage().FullName())
	default:
		s.line("// %s", d.FullName())
	}
}

func (s *sourceText) method(m protoreflect.MethodDescriptor) {
	stream := func(yes bool) string { return map[bool]string{true: "stream "}[yes] }
	s.line("rpc %s(%s%s) returns (%s%s);", m.Name(), stream(m.IsStreamingClient()), m.Input().FullName(), stream(m.IsStreamingServer()), m.Output().FullName())
}

func (s *sourceText) message(m protoreflect.MessageDescriptor) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		switch o := f.ContainingOneof(); {
		case o == nil || o.IsSynthetic():
			s.field(f)
		case o.Fields().Get(0) == f:
			s.oneof(o)
		}
	}
	for i := range m.Messages().Len() {
		if inner := m.Messages().Get(i); !inner.IsMapEntry() {
			s.declare(inner)
		}
	}
	for i := range m.Enums().Len() {
		s.declare(m.Enums().Get(i))
	}
	for i := range m.Extensions().Len() {
		s.declare(m.Extensions().Get(i))
	}
}

func (s *sourceText) oneof(o protoreflect.OneofDescriptor) {
	s.block(func() {
		for i := range o.Fields().Len() {
			s.field(o.Fields().Get(i))
		}
	}, "oneof %s", o.Name())
}

func (s *sourceText) field(f protoreflect.FieldDescriptor) {
	label := ""
	switch {
	case f.IsMap():
		s.line("map<%s, %s> %s = %d;", typeName(f.MapKey()), typeName(f.MapValue()), f.Name(), f.Number())
		return
	case f.IsList():
		label = "repeated "
	case f.Cardinality() == protoreflect.Required:
		label = "required "
	case f.HasOptionalKeyword():
		label = "optional "
	}
	s.line("%s%s %s = %d;", label, typeName(f), f.Name(), f.Number())
}

// typeName returns the type of a field's values.
func typeName(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return string(f.Message().FullName())
	case f.Enum() != nil:
		return string(f.Enum().FullName())
	}
	return f.Kind().String()
}
