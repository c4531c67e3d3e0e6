package descriptor

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// A file of descriptors may come from a program that nobody trusts. protobuf-go ends the
// process for some files, and others cost it far more memory and time than their size. So
// a file is checked before protobuf-go sees it: first its wire form, then its names.

// The bounds of names. Protoc allows no deeper nesting either; the longest names of
// Google's public APIs have 150 bytes.
const (
	maxNesting   = 32   // of messages in messages
	maxName      = 1000 // bytes of a full name
	maxNameParts = 64
)

// A quota counts the memory and the work of a set's files, and bounds them.
type quota struct {
	maxMemory, maxWork int
	reserve            Reserve // it may be nil

	memory int
	work   int // look-ups of names, and of files in files
	scopes int // that names are looked up in
	enums  int // the most in one message: a look-up tries each
}

// A Reserve is called before descriptors take memory, and before a number of names is
// looked up. After an error they aren't read.
type Reserve func(memory, lookups int) error

func (q *quota) takeMemory(n int) error {
	if q.memory += n; q.memory > q.maxMemory {
		return fmt.Errorf("the messages, fields and enum values would take more than %d MiB of memory", q.maxMemory>>20)
	}
	if q.reserve != nil {
		return q.reserve(n, 0)
	}
	return nil
}

func (q *quota) takeWork(n int) error {
	if q.work += n; q.work > q.maxWork {
		return errors.New("the names and imports would take too long to look up")
	}
	if q.reserve != nil {
		return q.reserve(0, n)
	}
	return nil
}

// The memory of a declaration while protobuf-go links its file, as TestDescriptorCosts
// measures it, without names and texts.
var memoryOf = map[protoreflect.FullName]int{
	"google.protobuf.FileDescriptorProto":      4000,
	"google.protobuf.DescriptorProto":          2000, // with the maps of its fields
	"google.protobuf.FieldDescriptorProto":     800,
	"google.protobuf.OneofDescriptorProto":     400,
	"google.protobuf.EnumDescriptorProto":      1200,
	"google.protobuf.EnumValueDescriptorProto": 450,
	"google.protobuf.ServiceDescriptorProto":   450,
	"google.protobuf.MethodDescriptorProto":    500,
}

// The memory of everything else in a file: a message, such as options, and any other value.
const (
	memoryOfMessage = 600
	memoryOfValue   = 100
)

var fileType = (*descriptorpb.FileDescriptorProto)(nil).ProtoReflect().Descriptor()

// fieldOfSourceInfo is the number of the comments and places in a FileDescriptorProto.
// They are left out: nothing needs them, and they are most of a file.
const fieldOfSourceInfo = 9

// readFile reads a file in its wire form, and checks it.
func (q *quota) readFile(data []byte) (*descriptorpb.FileDescriptorProto, error) {
	data = withoutField(data, fieldOfSourceInfo)
	c := declarations{left: q.maxMemory - q.memory}
	c.count(fileType, data, 0)
	if err := cmp.Or(c.err, q.takeMemory(c.memory)); err != nil {
		return nil, err
	}
	file := &descriptorpb.FileDescriptorProto{}
	// Options that only plug-ins know are unknown here, also those that this program has
	// generated code of.
	if err := (proto.UnmarshalOptions{DiscardUnknown: true, Resolver: new(protoregistry.Types)}).Unmarshal(data, file); err != nil {
		return nil, errNoFile
	}
	n := names{quota: q}
	n.file(file)
	if n.err == nil {
		n.err = cmp.Or(q.takeMemory(n.bytes), q.takeWork(n.lookups))
	}
	return file, n.err
}

var errNoFile = errors.New("not a FileDescriptorProto")

// withoutField returns a message without a field. Of bytes that are no message, the rest
// stays.
func withoutField(data []byte, number protowire.Number) []byte {
	var out []byte
	found := false
	for at := 0; at < len(data); {
		of, _, n := protowire.ConsumeField(data[at:])
		if n < 0 {
			n = len(data) - at
		}
		if of == number && !found {
			out, found = append(make([]byte, 0, len(data)-n), data[:at]...), true
		} else if of != number && found {
			out = append(out, data[at:at+n]...)
		}
		at += n
	}
	if !found {
		return data
	}
	return out
}

// declarations adds up the memory of a file's declarations, until it is more than is left.
type declarations struct {
	memory, left int
	err          error
}

// count adds a message of descriptor.proto. Bytes that are no message are protobuf-go's to
// refuse.
func (c *declarations) count(d protoreflect.MessageDescriptor, data []byte, depth int) {
	// A file has messages in messages, which have fields, with options, with features.
	if depth > maxNesting+8 {
		c.err = errNested
		return
	}
	memory, known := memoryOf[d.FullName()]
	if !known {
		memory = memoryOfMessage
	}
	c.memory += memory
	for field, err := range WireFields(data) {
		if err != nil || c.memory > c.left || c.err != nil {
			return
		}
		f, bytes := d.Fields().ByNumber(field.Number), field.Kind == protowire.BytesType
		switch {
		case f == nil: // unknown fields are dropped
		case f.Message() != nil && bytes:
			c.count(f.Message(), field.Value, depth+1)
		case bytes && f.Kind() != protoreflect.StringKind:
			c.memory += memoryOfValue + 9*len(field.Value) // packed numbers
		case bytes || f.IsList():
			c.memory += memoryOfValue + len(field.Value)
		}
	}
}

var errNested = fmt.Errorf("messages are nested more than %d deep", maxNesting)

// names checks the names of a file: those that it declares, and those that it refers to.
// err is the first mistake.
type names struct {
	quota *quota
	err   error
	bytes int // of all full names

	lookups int
}

// A scope is the full name of the package or declaration around a name.
type scope struct{ bytes, parts int }

func (n *names) file(f *descriptorpb.FileDescriptorProto) {
	path, edition := f.GetName(), f.GetEdition()
	switch {
	case path == "":
		n.err = errors.New("a file has no name")
		return
	case len(path) > maxName:
		n.err = fmt.Errorf("the name of a file has more than %d bytes", maxName)
		return
	case f.GetSyntax() == "editions" && edition != descriptorpb.Edition_EDITION_2023 && edition != descriptorpb.Edition_EDITION_2024:
		n.fail("edition %s is unknown: culvert knows 2023 and 2024", strings.TrimPrefix(edition.String(), "EDITION_"))
	}
	var in scope
	if f.GetPackage() != "" {
		for part := range strings.SplitSeq(f.GetPackage(), ".") {
			if n.err == nil {
				in = n.declare(in, part)
			}
		}
	}
	n.messages(in, f.GetMessageType(), 1)
	n.enums(in, f.GetEnumType())
	n.fields(in, f.GetExtension())
	for _, s := range f.GetService() {
		of := n.declare(in, s.GetName())
		for _, m := range s.GetMethod() {
			method := n.declare(of, m.GetName())
			n.refer(method, m.GetInputType())
			n.refer(method, m.GetOutputType())
		}
	}
	if n.err != nil {
		n.err = fmt.Errorf("%s: %w", readable(path), n.err)
	}
}

func (n *names) messages(in scope, of []*descriptorpb.DescriptorProto, depth int) {
	if depth > maxNesting && len(of) > 0 {
		n.fail("%w", errNested)
	}
	for _, m := range of {
		if n.err != nil {
			return
		}
		inside := n.declare(in, m.GetName())
		n.quota.enums = max(n.quota.enums, len(m.GetEnumType()))
		n.fields(inside, m.GetField())
		n.fields(inside, m.GetExtension())
		for _, o := range m.GetOneofDecl() {
			n.declare(inside, o.GetName())
		}
		n.enums(inside, m.GetEnumType())
		n.messages(inside, m.GetNestedType(), depth+1)
	}
}

func (n *names) fields(in scope, of []*descriptorpb.FieldDescriptorProto) {
	for _, f := range of {
		field := n.declare(in, f.GetName())
		n.refer(field, f.GetTypeName())
		n.refer(field, f.GetExtendee())
	}
}

func (n *names) enums(in scope, of []*descriptorpb.EnumDescriptorProto) {
	for _, e := range of {
		n.declare(in, e.GetName())
		for _, v := range e.GetValue() { // a value is named beside its enum
			n.declare(in, v.GetName())
		}
	}
}

// declare checks a name that is declared in a scope, and returns the scope that it is.
func (n *names) declare(in scope, name string) scope {
	of := scope{in.bytes + 1 + len(name), in.parts + 1}
	switch {
	case of.bytes > maxName || of.parts > maxNameParts:
		n.fail("the name …%s has more than %d bytes or %d parts", readable(name), maxName, maxNameParts)
	case !protoreflect.Name(name).IsValid():
		n.fail("%s is no name", readable(name))
	}
	n.bytes += 2 * of.bytes
	return of
}

// refer checks a name that a declaration refers to, and counts the look-ups: one for each
// part, in each scope around, unless the name begins with a dot.
func (n *names) refer(from scope, to string) {
	if to == "" {
		return
	}
	parts, scopes := 1+strings.Count(to, "."), 1
	if len(to) > maxName || parts > maxNameParts+1 {
		n.fail("the name %s has more than %d bytes or %d parts", readable(to), maxName, maxNameParts)
	}
	if !strings.HasPrefix(to, ".") {
		scopes += from.parts
	}
	n.quota.scopes += scopes
	n.lookups += scopes * (scopes + parts)
}

// readable returns a name that a program nobody trusts has sent, for an error.
func readable(name string) string {
	if protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(name, "."), "/", ".")).IsValid() {
		return cut(name)
	}
	return strconv.Quote(cut(name))
}

func (n *names) fail(format string, args ...any) {
	if n.err == nil {
		n.err = fmt.Errorf(format, args...)
	}
}
