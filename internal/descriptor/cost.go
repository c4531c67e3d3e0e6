package descriptor

import (
	"fmt"
	"unicode/utf8"

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

// A form is how JSON has a type: some types of google.protobuf have one of their own.
type form int

const (
	formOwn    form = iota // an object with the type's own fields
	formAny                // an object with the fields of another type
	formStruct             // an object with any members
	formList               // a list of any values
	formValue              // any value
	formText               // one value that is neither an object nor a list
	formEmpty              // an object without fields, which is a member of its own in an Any
)

var forms = map[protoreflect.Name]form{
	"Any": formAny, "Struct": formStruct, "ListValue": formList, "Value": formValue,
	"Timestamp": formText, "Duration": formText, "FieldMask": formText,
	"BoolValue": formText, "Int32Value": formText, "Int64Value": formText, "UInt32Value": formText, "UInt64Value": formText,
	"Empty": formEmpty, "FloatValue": formText, "DoubleValue": formText, "StringValue": formText, "BytesValue": formText,
}

func formOf(d protoreflect.MessageDescriptor) form {
	if d.FullName().Parent() != wellKnown {
		return formOwn
	}
	return forms[d.Name()]
}

// WriteCost estimates how many bytes Write takes beside the message: the message in
// memory, and its text. An error is a *WriteError: JSON can't have the message.
func (j JSON) WriteCost(of Message, wire []byte) (int, error) {
	c := costs{j: j, set: of.set}
	c.message(of.descriptor, wire, maxDepth)
	if c.cant != "" {
		return 0, &WriteError{Text: c.cant}
	}
	return 256 + c.memory + 3*c.text, nil // the text's buffer grows
}

// costs adds up what a message and its text take.
type costs struct {
	j            JSON
	set          *Set
	memory, text int
	anys         int                           // the Any around this place
	cant         string                        // why JSON can't have the message
	defaults     map[protoreflect.FullName]int // the text of all fields of a type
}

// message adds a message in the wire form.
func (c *costs) message(d protoreflect.MessageDescriptor, wire []byte, levels int) {
	if levels--; levels < 0 {
		c.cant = "a message " + tooDeep
		return
	}
	c.content(d, wire, levels)
}

// content adds a message that isn't a level of its own.
func (c *costs) content(d protoreflect.MessageDescriptor, wire []byte, levels int) {
	c.memory += messageCost
	c.text += 3 // with a comma
	if d.ParentFile().Package() == wellKnown {
		c.text += 40 // a time, at least
	}
	if c.j.Defaults {
		c.text += c.textOfDefaults(d)
	}
	if len(wire) > 0 {
		c.memory += fieldCost
	}
	c.fields(d, wire, levels)
	if c.cant == "" && formOf(d) == formAny {
		c.inAny(wire, levels)
	}
}

// fields adds the fields of a message. It stops where the bytes are no message: there
// Write fails.
func (c *costs) fields(d protoreflect.MessageDescriptor, wire []byte, levels int) {
	before := protowire.Number(0)
	for field, err := range WireFields(wire) {
		if err != nil || c.cant != "" {
			return
		}
		if f := c.field(d, field.Number); f != nil && mayBe(f, field.Kind) {
			c.value(f, field.Kind, field.Value, field.Number != before, levels)
		} else {
			c.memory += 3 * (len(field.Value) + 3) // unknown fields are kept
		}
		before = field.Number
	}
}

// mayBe reports whether a field may have that wire type. With another one it is unknown.
func mayBe(f protoreflect.FieldDescriptor, kind protowire.Type) bool {
	switch f.Kind() {
	case protoreflect.GroupKind:
		return kind == protowire.StartGroupType
	case protoreflect.MessageKind, protoreflect.StringKind, protoreflect.BytesKind:
		return kind == protowire.BytesType
	default:
		return true
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
func (c *costs) value(f protoreflect.FieldDescriptor, kind protowire.Type, value []byte, first bool, levels int) {
	if first {
		c.text += nameLength(f)
	}
	switch {
	case f.IsMap():
		if first {
			c.memory += mapCost
		}
		c.entry(f, value, levels)
		return
	case !f.IsList():
		c.memory += memberCost
	case first:
		c.memory += listCost
	}
	switch f.Kind() {
	case protoreflect.MessageKind:
		c.memory += valueCost
		if formOf(f.ContainingMessage()) == formValue && formOf(f.Message()) != formValue { // an object or a list of a Value, which is a level itself
			c.content(f.Message(), value, levels)
		} else {
			c.message(f.Message(), value, levels)
		}
	case protoreflect.GroupKind:
		c.memory += valueCost
		if group, n := protowire.ConsumeGroup(f.Number(), value); n >= 0 {
			c.message(f.Message(), group, levels)
		}
	case protoreflect.StringKind:
		if !utf8.Valid(value) {
			c.cant = "the string " + nameOfField(f) + " isn't valid UTF-8"
		}
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

// nameOfField returns the full name of a field. The key of a map is no field to its users.
func nameOfField(f protoreflect.FieldDescriptor) string {
	entry := f.ContainingMessage()
	around, ok := entry.Parent().(protoreflect.MessageDescriptor)
	if !entry.IsMapEntry() || !ok {
		return string(f.FullName())
	}
	for i := range around.Fields().Len() {
		if of := around.Fields().Get(i); of.Message() == entry {
			return fmt.Sprintf("%s (a map's %s)", of.FullName(), f.Name())
		}
	}
	return string(f.FullName())
}

// entry adds an entry of a map. A key or a value that is absent is the default one, which
// takes text all the same.
func (c *costs) entry(f protoreflect.FieldDescriptor, wire []byte, levels int) {
	c.memory += memberCost
	c.text += len(`"false":`)
	if of := f.MapValue(); !hasField(wire, of.Number()) {
		c.text += scalarLength(of)
		if of.Message() != nil {
			c.message(of.Message(), nil, levels)
		}
	}
	c.fields(f.Message(), wire, levels)
}

func hasField(wire []byte, number protowire.Number) bool {
	for field, err := range WireFields(wire) {
		if err == nil && field.Number == number {
			return true
		}
	}
	return false
}

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

// nameLength returns the length of a field's name, quoted, and of the punctuation around
// its value.
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
func (c *costs) inAny(wire []byte, levels int) {
	var url string
	var value []byte
	for field, err := range WireFields(wire) {
		switch {
		case err != nil:
			return
		case field.Kind != protowire.BytesType:
		case field.Number == 1:
			url = string(field.Value)
		case field.Number == 2:
			value = field.Value
		}
	}
	of, err := c.set.types.FindMessageByURL(url)
	switch {
	case err != nil:
		return
	case c.anys == maxInAny:
		c.cant = tooDeepInAny
		return
	}
	c.anys++
	c.text += quotedLength([]byte(url)) + len(`"@type":,"value":`)
	if formOf(of.Descriptor()) == formOwn {
		c.message(of.Descriptor(), value, levels)
	} else {
		c.content(of.Descriptor(), value, levels)
	}
	c.anys--
}
