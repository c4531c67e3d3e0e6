package reflection

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// An answer is a ServerReflectionResponse. It is read here, and not by protobuf-go,
// in which each empty name of a service takes 35 times its size.
// https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto
type answer struct {
	files    [][]byte // FileDescriptorProtos
	services map[string]bool
	failure  string // why there is no answer
	failed   bool
}

// The bounds of one answer, and of what the log has of it.
const (
	maxAnswer       = 17 << 20
	maxAnswerFiles  = 10_000
	maxServiceNames = 1 << 20 // bytes
	maxFailure      = 300
)

// read reads an answer in its wire form. It keeps no part of data but copies.
func (a *answer) read(data []byte) error {
	return eachField(data, func(number protowire.Number, value []byte) (err error) {
		switch number {
		case 4:
			return eachField(value, func(number protowire.Number, file []byte) error {
				if number != 1 {
					return nil
				}
				if len(a.files) == maxAnswerFiles {
					return fmt.Errorf("an answer has more than %d files", maxAnswerFiles)
				}
				a.files = append(a.files, append([]byte(nil), file...))
				return nil
			})
		case 6:
			return a.readServices(value)
		case 7:
			a.failed = true
			return eachField(value, func(number protowire.Number, text []byte) error {
				if number == 2 {
					a.failure = strings.ToValidUTF8(string(text[:min(len(text), maxFailure)]), "")
				}
				return nil
			})
		}
		return nil
	})
}

func (a *answer) readServices(list []byte) error {
	a.services = make(map[string]bool)
	n, bytes := 0, 0
	return eachField(list, func(number protowire.Number, service []byte) error {
		if number != 1 {
			return nil
		}
		var name string
		err := eachField(service, func(number protowire.Number, text []byte) error {
			if number == 1 {
				name = string(text)
			}
			return nil
		})
		a.services[name] = true
		n++
		if bytes += len(name); n > maxServices || bytes > maxServiceNames {
			return fmt.Errorf("the backend has more than %d services, or their names have more than %d bytes", maxServices, maxServiceNames)
		}
		return err
	})
}

// eachField calls a function with each field of a message that has bytes.
func eachField(data []byte, do func(number protowire.Number, value []byte) error) error {
	for f, err := range descriptor.WireFields(data) {
		if err == nil && f.Kind == protowire.BytesType {
			err = do(f.Number, f.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// codec writes questions as protobuf, and reads answers.
type codec struct{ encoding.CodecV2 }

// Unmarshal reads an *answer.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	return v.(*answer).read(b.ReadOnlyData())
}
