package descriptor

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A message in memory takes far more than its text or its wire form: an empty one in a
// list takes 190 bytes for 3 of text. The functions of this file estimate it before a
// conversion, so that it can be counted. An estimate takes time in proportion to the
// input, and is seldom too small.

// The memory of the parts of a message, as TestCosts measures it.
const (
	messageCost = 200 // without fields
	fieldCost   = 320 // of a message's first field: its map
	listCost    = 128
	mapCost     = 400
	valueCost   = 64  // an entry of a list
	memberCost  = 128 // a further field of a message, or an entry of a map
)

// ReadCost estimates how many bytes Read takes beside the text.
func (j JSON) ReadCost(of Message, text []byte) int {
	object, list, value, member := messageCost+fieldCost+memberCost, listCost, valueCost, memberCost
	if of.set.boxes(of.descriptor) {
		list, value, member = list+2*(messageCost+fieldCost), value+messageCost+fieldCost, member+messageCost+fieldCost
	}
	cost := object + 3*len(text)
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += lengthOfString(text[i+1:])
		case '{':
			cost += object
		case '[':
			cost += list
		case ',':
			cost += value
		case ':':
			cost += member
		}
	}
	return cost
}

// lengthOfString returns the length of a JSON string after the quote that begins it.
func lengthOfString(text []byte) int {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

const wellKnown = "google.protobuf"

// boxes reports whether the JSON of a type may have values that are no objects, but are
// messages: those of google.protobuf.Value and of the wrappers, and all that Any may have.
func (s *Set) boxes(d protoreflect.MessageDescriptor) bool {
	if yes, known := s.boxing.Load(d.FullName()); known {
		return yes.(bool)
	}
	seen := map[protoreflect.FullName]bool{d.FullName(): true}
	found := false
	for queue := []protoreflect.MessageDescriptor{d}; len(queue) > 0 && !found; queue = queue[1:] {
		found = queue[0].ParentFile().Package() == wellKnown || queue[0].ExtensionRanges().Len() > 0
		fields := queue[0].Fields()
		for i := range fields.Len() {
			if next := fields.Get(i).Message(); next != nil && !seen[next.FullName()] {
				seen[next.FullName()] = true
				queue = append(queue, next)
			}
		}
	}
	s.boxing.Store(d.FullName(), found)
	return found
}

// WriteCost estimates how many bytes Write takes beside the message: the message in
// memory, and its text.
func (j JSON) WriteCost(of Message, wire []byte) int {
	c := costs{j: j, set: of.set}
	c.message(of.descriptor, wire, maxDepth+1)
	return 256 + c.memory + 3*c.text // the text's buffer grows
}

// costs adds up what a message and its text take.
type costs struct {
	j            JSON
	set          *Set
	memory, text int
	defaults     map[protoreflect.FullName]int // the text of all fields of a type
}

// message adds a message in the wire form. Write fails for one that is nested more deeply.
func (c *costs) message(d protoreflect.MessageDescriptor, wire []byte, depth int) {
	c.memory += messageCost
	c.text += 3 // with a comma
	if d.ParentFile().Package() == wellKnown {
		c.text += 40 // a time, at least
	}
	if c.j.Defaults {
		c.text += c.textOfDefaults(d)
	}
	if depth > 0 {
		if len(wire) > 0 {
			c.memory += fieldCost
		}
		c.fields(d, wire, depth)
	}
	if depth > 0 && d.FullName() == "google.protobuf.Any" {
		c.inAny(wire, depth-1)
	}
}

// fields adds the fields of a message. It stops where the bytes are no message: there
// Write fails.
func (c *costs) fields(d protoreflect.MessageDescriptor, wire []byte, depth int) {
	for before := protowire.Number(0); len(wire) > 0; {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return
		}
		wire = wire[n:]
		if n = protowire.ConsumeFieldValue(number, kind, wire); n < 0 {
			return
		}
		value := wire[:n]
		wire = wire[n:]
		if f := c.field(d, number); f != nil {
			c.value(f, kind, value, number != before, depth)
		} else {
			c.memory += 3 * (len(value) + 2) // unknown fields are kept
		}
		before = number
	}
}

func (c *costs) field(d protoreflect.MessageDescriptor, number protowire.Number) protoreflect.FieldDescriptor {
	if f := d.Fields().ByNumber(number); f != nil || d.ExtensionRanges().Len() == 0 {
		return f
	}
	x, err := c.set.types.FindExtensionByNumber(d.FullName(), number)
	if err != nil {
		return nil
	}
	return x.TypeDescriptor()
}

// value adds one value of a field, or several that are packed. first reports whether the
// value before it was of another field.
func (c *costs) value(f protoreflect.FieldDescriptor, kind protowire.Type, value []byte, first bool, depth int) {
	if first {
		c.text += nameLength(f)
	}
	if kind == protowire.BytesType {
		value, _ = protowire.ConsumeBytes(value)
	}
	switch {
	case f.IsMap():
		if first {
			c.memory += mapCost
		}
		c.entry(f, value, depth)
		return
	case !f.IsList():
		c.memory += memberCost
	case first:
		c.memory += listCost
	}
	switch f.Kind() {
	case protoreflect.MessageKind:
		c.memory += valueCost
		c.message(f.Message(), value, depth-1)
	case protoreflect.GroupKind:
		c.memory += valueCost
		if group, n := protowire.ConsumeGroup(f.Number(), value); n >= 0 {
			c.message(f.Message(), group, depth-1)
		}
	case protoreflect.StringKind:
		c.memory += valueCost + len(value)
		c.text += quotedLength(value)
	case protoreflect.BytesKind:
		c.memory += valueCost + len(value)
		c.text += len(value)/3*4 + 8
	default:
		n := numbers(f.Kind(), kind, value)
		c.memory += n * valueCost
		c.text += n * scalarLength(f)
	}
}

// entry adds an entry of a map. A key or a value that is absent is the default one, which
// takes text all the same.
func (c *costs) entry(f protoreflect.FieldDescriptor, wire []byte, depth int) {
	c.memory += memberCost
	c.text += len(`"false":`)
	if of := f.MapValue(); !hasField(wire, of.Number()) {
		c.text += scalarLength(of)
		if of.Message() != nil {
			c.message(of.Message(), nil, 0)
		}
	}
	c.fields(f.Message(), wire, depth)
}

func hasField(wire []byte, number protowire.Number) bool {
	for len(wire) > 0 {
		found, _, n := protowire.ConsumeField(wire)
		if found == number || n < 0 {
			return n >= 0
		}
		wire = wire[n:]
	}
	return false
}

// numbers returns how many numbers a value has.
func numbers(of protoreflect.Kind, kind protowire.Type, value []byte) int {
	if kind != protowire.BytesType {
		return 1
	}
	switch of {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return len(value) / 4
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return len(value) / 8
	default: // each ends with a byte below 0x80
		n := 0
		for _, b := range value {
			if b < 0x80 {
				n++
			}
		}
		return n
	}
}

// nameLength returns the length of a field's name, quoted, and of what is around its value.
func nameLength(f protoreflect.FieldDescriptor) int {
	if f.IsExtension() {
		return len(f.FullName()) + 8
	}
	return max(len(f.JSONName()), len(f.Name())) + 6
}

// scalarLength returns the most that a number, a bool or an enum value takes as text,
// with a comma.
func scalarLength(f protoreflect.FieldDescriptor) int {
	const number = 26 // the longest is a double
	if f.Enum() == nil {
		return number
	}
	longest := number
	values := f.Enum().Values()
	for i := range min(values.Len(), 64) {
		longest = max(longest, len(values.Get(i).Name())+3)
	}
	return longest
}

// quotedLength returns the length of a string as text, with a comma.
func quotedLength(value []byte) int {
	n := len(value) + 3
	for _, b := range value {
		switch {
		case b < 0x20:
			n += 5
		case b == '"', b == '\\':
			n++
		}
	}
	return n
}

// textOfDefaults returns the length of the text of all fields of a type, where nothing is
// set.
func (c *costs) textOfDefaults(d protoreflect.MessageDescriptor) int {
	n, known := c.defaults[d.FullName()]
	if known {
		return n
	}
	fields := d.Fields()
	for i := range fields.Len() {
		n += nameLength(fields.Get(i)) + 8
		if fields.Get(i).Kind() == protoreflect.EnumKind {
			n += scalarLength(fields.Get(i))
		}
	}
	if c.defaults == nil {
		c.defaults = make(map[protoreflect.FullName]int)
	}
	c.defaults[d.FullName()] = n
	return n
}

// inAny adds the message in an Any, which Write reads, too.
func (c *costs) inAny(wire []byte, depth int) {
	var url string
	var value []byte
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeField(wire)
		if n < 0 {
			return
		}
		_, _, tag := protowire.ConsumeTag(wire)
		field, _ := protowire.ConsumeBytes(wire[tag:n])
		switch {
		case kind != protowire.BytesType:
		case number == 1:
			url = string(field)
		case number == 2:
			value = field
		}
		wire = wire[n:]
	}
	if of, err := c.set.types.FindMessageByURL(url); err == nil {
		c.text += quotedLength([]byte(url)) + len(`"@type":,"value":`)
		c.message(of.Descriptor(), value, depth)
	}
}
