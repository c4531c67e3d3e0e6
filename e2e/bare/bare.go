// Package bare has gRPC carry messages as the bytes that they are.
package bare

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // for reflection
	"google.golang.org/grpc/mem"
)

// A Codec hands messages on as the bytes they are: a mem.BufferSlice is sent, and a
// *mem.BufferSlice received. Reflection has messages of other types.
type Codec struct{}

// Name implements encoding.CodecV2.
func (Codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.(mem.BufferSlice); ok {
		return raw, nil
	}
	return encoding.GetCodecV2("proto").Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	raw, ok := v.(*mem.BufferSlice)
	if !ok {
		return encoding.GetCodecV2("proto").Unmarshal(data, v)
	}
	data.Ref() // grpc-go frees its own reference on return
	*raw = data
	return nil
}
