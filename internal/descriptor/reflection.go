package descriptor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// The paths of server reflection. The messages are the same; older servers have only the
// second. https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
const (
	ReflectionV1      = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
	ReflectionV1Alpha = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
)

// Reflection asks a server by server reflection. It is a [Source].
//
// The function sends a question, a ServerReflectionRequest, and calls read with the answer to
// it, a ServerReflectionResponse. Both are in the wire form, and the function may use the
// answer's memory again once read has returned. It returns read's error, and its own
// unchanged.
// https://github.com/grpc/grpc-proto/blob/master/grpc/reflection/v1/reflection.proto
type Reflection func(ctx context.Context, question []byte, read func(answer []byte) error) error

// The fields of a question.
const (
	askFile      protowire.Number = 3
	askSymbol    protowire.Number = 4
	askExtension protowire.Number = 5
	askServices  protowire.Number = 7
)

func (r Reflection) ask(ctx context.Context, field protowire.Number, value []byte) (*reflected, error) {
	question := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), value)
	a := new(reflected)
	if err := r(ctx, question, a.read); err != nil {
		return nil, err
	}
	if a.failed {
		return nil, errors.New(cmp.Or(a.failure, "the backend gives no reason"))
	}
	return a, nil
}

// Services returns the names of the services.
func (r Reflection) Services(ctx context.Context) (map[string]bool, error) {
	a, err := r.ask(ctx, askServices, nil)
	if err != nil {
		return nil, err
	}
	if a.services == nil {
		return map[string]bool{}, nil
	}
	return a.services, nil
}

// FilesOf implements Source.
func (r Reflection) FilesOf(ctx context.Context, symbol string) ([][]byte, error) {
	return r.files(ctx, askSymbol, []byte(symbol))
}

// FilesOfExtension implements Source.
func (r Reflection) FilesOfExtension(ctx context.Context, message string, number int32) ([][]byte, error) {
	of := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), message)
	of = protowire.AppendVarint(protowire.AppendTag(of, 2, protowire.VarintType), uint64(number)) // as protobuf writes an int32
	return r.files(ctx, askExtension, of)
}

// File implements Source.
func (r Reflection) File(ctx context.Context, name string) ([][]byte, error) {
	return r.files(ctx, askFile, []byte(name))
}

func (r Reflection) files(ctx context.Context, field protowire.Number, value []byte) ([][]byte, error) {
	a, err := r.ask(ctx, field, value)
	if err != nil {
		return nil, err
	}
	return a.files, nil
}

// A reflected answer is a ServerReflectionResponse. It is read here, and not by protobuf-go,
// in which each empty name of a service takes 35 times its size.
type reflected struct {
	files    [][]byte // FileDescriptorProtos
	services map[string]bool
	failure  string // why there is no answer
	failed   bool
}

// The bounds of one answer, and of what the log has of it.
const (
	MaxReflected        = 17 << 20 // bytes of an answer
	MaxServices         = 10_000
	maxReflectedFiles   = 10_000
	maxServiceNameBytes = 1 << 20
	maxFailure          = 300
)

// read reads an answer in its wire form. It keeps no part of data but copies.
func (a *reflected) read(data []byte) error {
	return eachField(data, func(number protowire.Number, value []byte) (err error) {
		switch number {
		case 4:
			return eachField(value, func(number protowire.Number, file []byte) error {
				if number != 1 {
					return nil
				}
				if len(a.files) == maxReflectedFiles {
					return fmt.Errorf("an answer has more than %d files", maxReflectedFiles)
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

func (a *reflected) readServices(list []byte) error {
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
		if bytes += len(name); n > MaxServices || bytes > maxServiceNameBytes {
			return fmt.Errorf("the backend has more than %d services, or their names have more than %d bytes", MaxServices, maxServiceNameBytes)
		}
		return err
	})
}

// eachField calls a function with each field of a message that has bytes.
func eachField(data []byte, do func(number protowire.Number, value []byte) error) error {
	for f, err := range WireFields(data) {
		if err == nil && f.Kind == protowire.BytesType {
			err = do(f.Number, f.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
