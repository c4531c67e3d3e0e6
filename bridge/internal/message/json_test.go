package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/apipb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/sourcecontextpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/typepb"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// described returns a method of google.protobuf.Struct, whose JSON is any object, and one
// of google.protobuf.Type, which has lists, enums and Any.
func described(t testing.TB) (free, typed descriptor.Method) {
	t.Helper()
	kind := func(m proto.Message) *string {
		return proto.String("." + string(m.ProtoReflect().Descriptor().FullName()))
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("free.proto"), Syntax: proto.String("proto3"),
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Free"), InputType: kind(&structpb.Struct{}), OutputType: kind(&structpb.Struct{})},
			{Name: proto.String("Typed"), InputType: kind(&typepb.Type{}), OutputType: kind(&typepb.Type{})},
		}}},
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, known := range []proto.Message{&anypb.Any{}, &durationpb.Duration{}, &sourcecontextpb.SourceContext{}, &structpb.Struct{}, &typepb.Type{}, &apipb.Api{}} {
		imported := protodesc.ToFileDescriptorProto(known.ProtoReflect().Descriptor().ParentFile())
		file.Dependency = append(file.Dependency, imported.GetName())
		set.File = append(set.File, imported)
	}
	set.File = append(set.File, file)
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := descriptor.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*descriptor.Method{"Free": &free, "Typed": &typed} {
		if *m, err = parsed.Method("/S/" + name); err != nil {
			t.Fatal(err)
		}
	}
	return free, typed
}

// lent counts the buffers of a pool that are in use. grpc-go leaves those of up to 1 KiB
// to the garbage collector.
type lent struct {
	pool mem.BufferPool
	n    atomic.Int64
}

func (l *lent) Get(length int) *[]byte {
	b := l.pool.Get(length)
	if cap(*b) > 1<<10 {
		l.n.Add(1)
	}
	return b
}

func (l *lent) Put(b *[]byte) {
	l.n.Add(-1)
	l.pool.Put(b)
}

// pieces returns a message of at most two buffers of the pool.
func pieces(pool mem.BufferPool, b []byte, at int) mem.BufferSlice {
	at = min(at, len(b))
	out := mem.BufferSlice{mem.Copy(b[:at], pool)}
	if at < len(b) {
		out = append(out, mem.Copy(b[at:], pool))
	}
	return out
}

// FuzzConverter: any bytes are refused as a request and as a reply, with a status that
// says why, or are converted to the same message. Nothing stays in the account or in use.
func FuzzConverter(f *testing.F) {
	free, typed := described(f)
	for _, seed := range []string{
		"", "{}", `{"a":[1,null,"x",{"b":true}]}`, `{"name":"T","fields":[{"kind":"TYPE_INT64","number":7,"packed":true}],"syntax":"SYNTAX_EDITIONS"}`,
		`{"options":[{"name":"o","value":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.5s"}}],"oneofs":["` + strings.Repeat("long", 80) + `"]}`,
		`{"options":[{"value":{"@type":"type.googleapis.com/google.protobuf.Struct","value":{"a":{}}}}]}`, `{"a":` + strings.Repeat("[", 120),
		`{"a":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}`, `{"a":` + strings.Repeat(`{"":`, 97) + `{}` + strings.Repeat("}", 97) + `}`,
		"{\"a\":\"\xff\"}", "\x0a\x01T\x12\x04\x08\x03\x18\x07", "\x0a\x09\x0a\x01a\x12\x04\x1a\x02hi", "\x0a\x05ab",
		`{"a":"` + strings.Repeat("a", 1500) + `"}`, "\x0a\xe0\x0f" + strings.Repeat("n", 2016),
	} {
		f.Add([]byte(seed), uint16(3), uint16(5000), uint32(1<<20), byte(32))
		f.Add([]byte(seed), uint16(1), uint16(5000), uint32(1<<20), byte(0))
		f.Add([]byte(seed), uint16(0), uint16(10), uint32(2000), byte(0xff))
	}
	f.Fuzz(func(t *testing.T, data []byte, at, limit uint16, room uint32, flags byte) {
		account := memory.New(int64(room), 0)
		pool := &lent{pool: account.Pool}
		account.Pool = pool
		c := Converter{
			JSON:   descriptor.JSON{RejectUnknown: flags&1 > 0, ProtoNames: flags&2 > 0, EnumNumbers: flags&4 > 0, Defaults: flags&8 > 0},
			Method: free, Limit: report.SizeLimit{Bytes: int(limit), Key: report.KeyMessageBytes}, Held: account.NewEntry(),
		}
		if flags&32 > 0 {
			c.Method = typed
		}
		convert := func(b []byte, request bool) ([]byte, error) {
			by := c.Reply
			if request {
				by = c.Request
			}
			out, err := by(t.Context(), pieces(pool, b, int(at)))
			var fault *report.Fault
			if err != nil && !errors.As(err, &fault) {
				t.Fatalf("%q: %v isn't a status of culvert", b, err)
			}
			if out.Len() > c.Limit.Bytes {
				t.Fatalf("%q became %d bytes, over the limit of %d", b, out.Len(), c.Limit.Bytes)
			}
			got := out.Materialize()
			out.Free()
			parts.WantUsed(t, account, 0)
			if n := pool.n.Load(); n != 0 {
				t.Fatalf("%q: %d buffers are in use afterwards", b, n)
			}
			return got, err
		}
		wire, err := convert(data, true)
		if err == nil {
			convertsBack(t, convert, wire)
		}
		if text, err := convert(data, false); err == nil {
			convertsBack(t, convert, data)
			if !json.Valid(text) {
				t.Errorf("%x became %q", data, text)
			}
		}
	})
}

// convertsBack checks that a message stays the same as JSON. It may be over a limit there.
func convertsBack(t *testing.T, convert func(b []byte, request bool) ([]byte, error), wire []byte) {
	t.Helper()
	text, err := convert(wire, false)
	if over(err) {
		return
	}
	if err != nil {
		t.Fatalf("%x was read, and can't be written: %v", wire, err)
	}
	again, err := convert(text, true)
	if over(err) {
		return
	}
	if err != nil {
		t.Fatalf("%q was written, and can't be read: %v", text, err)
	}
	same, err := convert(again, false)
	if err != nil && !over(err) {
		t.Fatalf("%x can't be written: %v", again, err)
	}
	var a, b bytes.Buffer
	if err == nil && (json.Compact(&a, text) != nil || json.Compact(&b, same) != nil || a.String() != b.String()) {
		t.Errorf("%s became %s", text, same)
	}
}

// over reports whether a conversion took more than a limit.
func over(err error) bool {
	switch reasonOf(err) {
	case report.ReasonRequestTooLarge, report.ReasonResponseTooLarge, report.ReasonLimitExceeded:
		return true
	default:
		return false
	}
}

// roomFor returns a message that counts in the class, as those of clients and backends do.
func roomFor(t *testing.T, e *memory.Entry, of memory.Class, b []byte) mem.BufferSlice {
	t.Helper()
	c := memory.NewClaim(e)
	defer c.Done()
	if err := c.Reserve(t.Context(), of, len(b)); err != nil {
		t.Fatal(err)
	}
	out := c.Buffer(len(b))
	copy(out.ReadOnlyData(), b)
	return append(c.Slice(), out)
}

// TestConversionsWaitForNoOther: requests and replies that fill the memory for messages can
// all be converted at the same time.
func TestConversionsWaitForNoOther(t *testing.T) {
	free, _ := described(t)
	text := []byte(`{"a":"` + strings.Repeat("x", 11<<20) + `"}`)
	wire, err := (descriptor.JSON{}).Read(free.Request, text, new(descriptor.Unknowns))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		account := memory.New(256<<20, 0)
		begin, converting := time.Now(), sync.WaitGroup{}
		for range 8 {
			c := &Converter{Method: free, Limit: report.SizeLimit{Bytes: 16 << 20, Key: report.KeyMessageBytes}, Held: account.NewEntry()}
			request, reply := roomFor(t, c.Held, memory.Request, text), roomFor(t, c.Held, memory.Reply, wire)
			for _, convert := range []func() (mem.BufferSlice, error){
				func() (mem.BufferSlice, error) { return c.Request(t.Context(), request) },
				func() (mem.BufferSlice, error) { return c.Reply(t.Context(), reply) },
			} {
				converting.Go(func() {
					m, err := convert()
					if err != nil {
						t.Error(err)
					}
					m.Free()
				})
			}
		}
		converting.Wait()
		if took := time.Since(begin); took > 0 || account.Used() != 0 {
			t.Errorf("some waited %v for others; %d bytes are left", took, account.Used())
		}
	})
}

// TestConvertedMessagesCountWithTheirDirection: requests that a backend doesn't take stop no
// replies.
func TestConvertedMessagesCountWithTheirDirection(t *testing.T) {
	free, _ := described(t)
	text := []byte(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`)
	account := memory.New(256<<20, 0)
	var stuck mem.BufferSlice
	for range 90 {
		c := &Converter{Method: free, Limit: report.SizeLimit{Bytes: 16 << 20}, Held: account.NewEntry()}
		m, err := c.Request(t.Context(), roomFor(t, c.Held, memory.Request, text))
		if err != nil {
			t.Fatal(err)
		}
		stuck = append(stuck, m...)
	}
	if used := account.Used(); used < 90<<20 {
		t.Errorf("%d bytes count, of %d messages of 1 MiB", used, 90)
	}
	reply := roomFor(t, account.NewEntry(), memory.Reply, make([]byte, 10<<20)) // at once, or the test waits and fails
	reply.Free()
	stuck.Free()
	if used := account.Used(); used != 0 {
		t.Errorf("%d bytes are left", used)
	}
}

// TestConversionsAreBounded: one that needs more than the memory for conversions is refused,
// and others wait for their turn.
func TestConversionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := memory.New(1<<20, 0)
		held := account.NewEntry()
		const most = 15 << 15 // fifteen sixteenths of half of it
		if _, fits, err := held.Convert(t.Context(), most+1, nil); fits || err != nil {
			t.Errorf("more than there is: fits %v, %v", fits, err)
		}
		done, fits, err := held.Convert(t.Context(), most, nil)
		if !fits || err != nil {
			t.Fatalf("all of it: fits %v, %v", fits, err)
		}
		var fault *report.Fault
		if _, _, err := held.Convert(t.Context(), most/2, nil); !errors.As(err, &fault) || fault.Key != report.KeyBufferedBytes {
			t.Errorf("beside it: %v", err)
		}
		done()
		if done, _, err = held.Convert(t.Context(), most, nil); err != nil {
			t.Errorf("after it: %v", err)
		}
		done()
	})
}

// TestLargeMessagesAreEstimatedInTurn: what takes a processor for long waits for its turn, also
// before the message is known to be converted. A panic of the estimate leaves no turn taken.
func TestLargeMessagesAreEstimatedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := memory.New(256<<20, 0)
		c := Converter{Held: account.NewEntry()}
		estimates := make(chan int, 2)
		estimate := func(n int) {
			_, _ = c.estimated(t.Context(), n, nil, func() (int, error) { estimates <- n; return 0, nil })
		}
		done, _, err := c.Held.Convert(t.Context(), 100<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		go estimate(30 << 20)
		go estimate(memory.SmallBytes)
		if n := <-estimates; n != memory.SmallBytes {
			t.Errorf("%d bytes are estimated beside a conversion that has the room", n)
		}
		done()
		<-estimates
		synctest.Wait()
		func() {
			defer func() { _ = recover() }()
			_, _ = c.estimated(t.Context(), 100<<20, nil, func() (int, error) { panic("a test's") })
		}()
		began := time.Now()
		if done, _, err = c.Held.Convert(t.Context(), 100<<20, nil); err != nil || time.Since(began) > 0 {
			t.Fatalf("after a panic a conversion waits %v, and ends with %v", time.Since(began), err)
		}
		done()
	})
}
