package descriptor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // more types
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	_ "google.golang.org/protobuf/types/known/apipb" // more types
)

// TestAsGeneratedCode: culvert converts random messages of every type in this program as
// protojson does with generated code, and refuses the same texts.
func TestAsGeneratedCode(t *testing.T) {
	s, err := newSet(allFiles(), &quota{maxMemory: maxSetMemory, maxWork: maxSetWork})
	if err != nil {
		t.Fatal(err)
	}
	types, texts, refused := 0, 0, 0
	random := rand.New(rand.NewPCG(1, 2))
	protoregistry.GlobalTypes.RangeMessages(func(kind protoreflect.MessageType) bool {
		types++
		found, err := s.files.FindDescriptorByName(kind.Descriptor().FullName())
		if err != nil {
			t.Error(err)
			return true
		}
		of := Message{found.(protoreflect.MessageDescriptor), s}
		for range 100 {
			m := kind.New()
			fill(random, m, 3)
			want, wantErr := protojson.MarshalOptions{AllowPartial: true}.Marshal(m.Interface())
			wire, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m.Interface())
			if err != nil {
				t.Fatalf("%s: %v", of.Name(), err)
			}
			got, err := JSON{}.Write(nil, of, wire, new(Unknowns))
			if (err == nil) != (wantErr == nil) {
				t.Errorf("%s: %x: %v, with generated code %v", of.Name(), wire, err, wantErr)
			}
			if err != nil {
				refused++
				continue
			}
			texts++
			if compact(t, got) != compact(t, want) {
				t.Errorf("%s: %x became %s, with generated code %s", of.Name(), wire, got, want)
			}
			for _, text := range [][]byte{want, mutated(random, want)} {
				back := kind.New().Interface()
				wantErr := protojson.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(text, back)
				wire, err := JSON{RejectUnknown: true}.Read(of, text, new(Unknowns))
				if (err == nil) != (wantErr == nil) {
					t.Errorf("%s: %s: %v, with generated code %v", of.Name(), text, err, wantErr)
				}
				read := kind.New().Interface()
				if err == nil && (proto.Unmarshal(wire, read) != nil || !proto.Equal(read, back)) {
					t.Errorf("%s: %s was read as %v, with generated code as %v", of.Name(), text, read, back)
				}
			}
		}
		return true
	})
	if types < 60 || texts < 50*types || refused == 0 {
		t.Errorf("%d messages of %d types were converted and %d refused, want most messages of 60 types", texts, types, refused)
	}
}

// allFiles returns the files that this program has generated code of.
func allFiles() (files []*descriptorpb.FileDescriptorProto) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		files = append(files, protodesc.ToFileDescriptorProto(f))
		return true
	})
	return files
}

// fill sets some fields of a message.
func fill(random *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if random.IntN(3) == 0 || depth == 0 && f.Message() != nil {
			continue
		}
		switch {
		case f.IsMap():
			v := m.Mutable(f).Map()
			for range random.IntN(4) {
				value := v.NewValue()
				if f.MapValue().Message() == nil {
					value = scalar(random, f.MapValue())
				} else {
					fill(random, value.Message(), depth-1)
				}
				v.Set(scalar(random, f.MapKey()).MapKey(), value)
			}
		case f.IsList():
			v := m.Mutable(f).List()
			for range random.IntN(4) {
				value := v.NewElement()
				if f.Message() == nil {
					value = scalar(random, f)
				} else {
					fill(random, value.Message(), depth-1)
				}
				v.Append(value)
			}
		case f.Message() != nil:
			fill(random, m.Mutable(f).Message(), depth-1)
		default:
			m.Set(f, scalar(random, f))
		}
	}
}

// scalar returns a value at an edge, or any.
func scalar(random *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	n := []uint64{0, 1, 1 << 31, math.MaxUint32, math.MaxUint64, 315576000000, uint64(random.Uint32N(1000)), random.Uint64()}[random.IntN(8)]
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n&1 > 0)
	case protoreflect.EnumKind:
		if n == math.MaxUint64 && !f.Enum().IsClosed() {
			return protoreflect.ValueOfEnum(77)
		}
		return protoreflect.ValueOfEnum(f.Enum().Values().Get(int(n % uint64(f.Enum().Values().Len()))).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(n)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(math.Float32frombits(uint32(n)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(math.Float64frombits(n))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(fmt.Append(nil, n))
	default:
		return protoreflect.ValueOfString([]string{"", "a", "snake_case", "\"\\\n\x00\x7f", "ä€😀\u2028", strings.Repeat("long", 50), "type.googleapis.com/google.protobuf.Duration", fmt.Sprint(n)}[random.IntN(8)])
	}
}

// mutated returns a text with one token in another's place.
func mutated(random *rand.Rand, text []byte) []byte {
	tokens := bytes.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(`,:{}[]`, r) })
	if len(tokens) == 0 {
		return []byte("[]")
	}
	others := append(slices.Clone(tokens), []byte("null"), []byte("1e2"), []byte(`"-0"`), []byte("{}"), []byte("[]"), []byte("true"), []byte(`"NaN"`), []byte("0.5"))
	out := bytes.Replace(text, tokens[random.IntN(len(tokens))], others[random.IntN(len(others))], 1)
	if !json.Valid(out) {
		return text
	}
	return out
}
