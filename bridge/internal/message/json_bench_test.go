package message

import (
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/sourcecontextpb"
	"google.golang.org/protobuf/types/known/typepb"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// BenchmarkConverter compares the conversion of a request and a reply with the same by
// protojson and proto alone, by turns: with the type's descriptors, which are all that
// culvert knows, and with its generated code.
func BenchmarkConverter(b *testing.B) {
	_, typed := described(b)
	m := &typepb.Type{Name: "shop.v1.Order", Oneofs: []string{"payment"}, SourceContext: &sourcecontextpb.SourceContext{FileName: "shop/v1/order.proto"}}
	for i, name := range []string{"order_id", "note", "items", "customer", "total_cents"} {
		m.Fields = append(m.Fields, &typepb.Field{Kind: typepb.Field_TYPE_STRING, Number: int32(i + 1), Name: name, TypeUrl: "type.googleapis.com/shop.v1." + name, Packed: i%2 == 0})
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	wire, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	c := Converter{Method: typed, Limit: report.SizeLimit{Bytes: 1 << 20}, Held: memory.New(30<<20, 0).NewEntry()}
	alone := func(fresh func() proto.Message) func() error {
		return func() error {
			request, reply := fresh(), fresh()
			if err := protojson.Unmarshal(text, request); err != nil {
				return err
			}
			if _, err := proto.Marshal(request); err != nil {
				return err
			}
			if err := proto.Unmarshal(wire, reply); err != nil {
				return err
			}
			_, err := protojson.Marshal(reply)
			return err
		}
	}
	var took [3]time.Duration
	for b.Loop() {
		for i, side := range []func() error{
			func() error {
				request, err := c.Request(b.Context(), mem.BufferSlice{mem.SliceBuffer(text)})
				if err != nil {
					return err
				}
				request.Free()
				reply, err := c.Reply(b.Context(), mem.BufferSlice{mem.SliceBuffer(wire)})
				reply.Free()
				return err
			},
			alone(func() proto.Message { return dynamicpb.NewMessage(m.ProtoReflect().Descriptor()) }),
			alone(func() proto.Message { return &typepb.Type{} }),
		} {
			began := time.Now()
			if err := side(); err != nil {
				b.Fatal(err)
			}
			took[i] += time.Since(began)
		}
	}
	b.ReportMetric(100*float64(took[0])/float64(took[1]), "%of-descriptors")
	b.ReportMetric(100*float64(took[0])/float64(took[2]), "%of-generated")
}
