package reflection

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

func typeNamed(name string) descriptor.Unknown { return descriptor.Unknown{Name: name} }

// askedOften reports whether an error is about too many questions.
func askedOften(err error) bool {
	var f *report.Fault
	return errors.As(err, &f) && f.Reason == report.ReasonLimitExceeded
}

// TestLearn: a type that no service's file has is asked for once.
func TestLearn(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	b := bookOf(t, ln.Addr().String())
	account := b.account
	m, err := b.Described(within(t, patience), checkHealth)
	if err != nil {
		t.Fatal(err)
	}
	before := account.Held()
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if err := b.Learn(within(t, patience), nil, typeNamed("grpc.reflection.v1.ErrorResponse")); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	if n := streams.Load(); n != 2 {
		t.Errorf("asked by %d streams, want 2", n)
	}
	if account.Held() <= before {
		t.Errorf("%d bytes are held, as many as before", account.Held())
	}
	if m.Request.Now() == m.Request {
		t.Error("the type isn't known now")
	}
	for range 3 {
		if err := b.Learn(within(t, patience), nil, typeNamed("a.None")); !errors.Is(err, descriptor.ErrUnknown) {
			t.Errorf("%v, want %v", err, descriptor.ErrUnknown)
		}
	}
	if n := streams.Load(); n != 3 {
		t.Errorf("asked by %d streams, want 3", n)
	}
	b.Close()()
	if n := account.Held(); n != 0 {
		t.Errorf("%d bytes are held after the end", n)
	}
	if err := b.Learn(within(t, patience), nil, typeNamed("a.Other")); err == nil || errors.Is(err, descriptor.ErrUnknown) {
		t.Errorf("after the end: %v", err)
	}
}

// TestInventedTypesAskSeldom: at most ten a minute, and one address leaves some to others.
func TestInventedTypesAskSeldom(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	b := bookOf(t, ln.Addr().String())
	if _, err := b.Described(within(t, patience), checkHealth); err != nil {
		t.Fatal(err)
	}
	before, addresses := streams.Load(), make([]memory.Address, 30)
	var refused int
	for k := range addresses {
		for i := range 30 {
			err := b.Learn(within(t, patience), &addresses[k], typeNamed(fmt.Sprintf("a%d.B%d", k, i)))
			switch {
			case askedOften(err):
				refused++
			case !errors.Is(err, descriptor.ErrUnknown):
				t.Fatal(err)
			}
		}
		if n := streams.Load() - before; k == 0 && n != maxNamedAsked/2 || k == 1 && n <= maxNamedAsked/2 {
			t.Errorf("%d addresses have asked %d times", k+1, n)
		}
	}
	if n := streams.Load() - before; n > maxNamedAsked || refused == 0 {
		t.Errorf("asked %d times, want at most %d", n, maxNamedAsked)
	}
	// What is known to be unknown costs nothing.
	if err := b.Learn(within(t, patience), &addresses[9], typeNamed("a0.B0")); !errors.Is(err, descriptor.ErrUnknown) {
		t.Errorf("a name from before: %v", err)
	}
}

// TestNamesThatNobodyKnowsAreBounded: the address with most of them loses its oldest.
func TestNamesThatNobodyKnowsAreBounded(t *testing.T) {
	var o namedTypes
	var many, few memory.Address
	o.doesntKnow(typeNamed("few"), negative{by: &few})
	for i := range 3 * maxUnknown {
		o.doesntKnow(typeNamed(fmt.Sprint("many", i)), negative{by: &many})
	}
	if len(o.unknown) != maxUnknown || len(o.order) != maxUnknown {
		t.Errorf("%d, in order %d", len(o.unknown), len(o.order))
	}
	for name, want := range map[string]bool{"few": true, "many0": false, fmt.Sprint("many", 3*maxUnknown-1): true} {
		if _, got := o.unknown[typeNamed(name)]; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestNamedTypesAreBounded: the address that had most of them fetched loses its oldest.
func TestNamedTypesAreBounded(t *testing.T) {
	b := new(Book)
	o := &b.named
	o.known = make(map[descriptor.Unknown]*namedType)
	var many, few memory.Address
	fetched := time.Now()
	know := func(name string, by *memory.Address, age time.Duration) {
		s := &namedType{by: by}
		s.at, s.set = fetched.Add(-age), new(descriptor.Set)
		o.known[typeNamed(name)] = s
	}
	know("few", &few, time.Hour)
	for i := range 3 {
		know(fmt.Sprint("many", i), &many, time.Duration(i)*time.Minute)
	}
	o.evict(b)
	if o.known[typeNamed("many2")] != nil || len(o.known) != 3 {
		t.Errorf("%d are left: %v", len(o.known), o.known)
	}
}

// TestUnusableDescriptorsHaveTheirCause: the backend knows the type, and its file imports
// one that the backend doesn't have.
func TestUnusableDescriptorsHaveTheirCause(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	half, err := protodesc.FileOptions{AllowUnresolvable: true}.New(&descriptorpb.FileDescriptorProto{
		Name: proto.String("half.proto"), Package: proto.String("half"), Dependency: []string{"lost.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Event")}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(half); err != nil {
		t.Fatal(err)
	}
	describing(t, ln, withHealth, func(gs *grpc.Server) {
		reflectionpb.RegisterServerReflectionServer(gs, reflection.NewServerV1(reflection.ServerOptions{Services: gs, DescriptorResolver: bothFiles{files}}))
	})
	b := bookOf(t, ln.Addr().String())
	if _, err := b.Described(within(t, patience), checkHealth); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second answer is remembered
		err := b.Learn(within(t, patience), nil, typeNamed("half.Event"))
		if f, ok := errors.AsType[*report.Fault](err); !ok || f.Reason != report.ReasonDescriptorMismatch || !strings.Contains(f.Text, "half.proto imports lost.proto") || !strings.Contains(f.Remedy, "add lost.proto") {
			t.Errorf("%v", err)
		}
	}
}

// bothFiles are files, and those of the test's program.
type bothFiles struct{ files *protoregistry.Files }

func (b bothFiles) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if f, err := b.files.FindFileByPath(path); err == nil {
		return f, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (b bothFiles) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := b.files.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

// TestReconnectingBackendIsntAskedAgainAndAgain, but again after a minute.
func TestReconnectingBackendIsntAskedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		var a attempt
		asked := 0
		for conns := range int64(100) {
			if !a.current(conns, false) {
				asked++
				a = attempt{at: time.Now(), conns: conns}.after(a)
			}
			time.Sleep(time.Second / 2)
		}
		if asked != maxAsked {
			t.Errorf("asked %d times in 50 s, want %d", asked, maxAsked)
		}
		time.Sleep(time.Minute)
		if a.current(1000, false) {
			t.Error("isn't asked after a minute")
		}
	})
}

// TestDescriptorsCount: without room in the account they aren't read.
func TestDescriptorsCount(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth, withReflection)
	b := bookOf(t, ln.Addr().String())
	account := b.account
	full := account.NewEntry()
	for n := int64(1 << 28); n >= 1<<10; n /= 2 {
		for full.Keep(n) {
		}
	}
	var f *report.Fault
	if _, err := b.Described(within(t, patience), checkHealth); !errors.As(err, &f) || f.Key != report.KeyMemory {
		t.Errorf("without room: %v", err)
	}
	full.Settle()
	if held := account.Held(); held != 0 {
		t.Errorf("%d bytes are held after a fetch in vain", held)
	}
}

// TestSilentReflectionDelaysFewMessages: after a question in vain, nobody asks for a minute.
func TestSilentReflectionDelaysFewMessages(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	b := bookOf(t, ln.Addr().String())
	if _, err := b.Described(within(t, patience), checkHealth); err != nil {
		t.Fatal(err)
	}
	before, unasked := streams.Load(), report.New(report.ReasonUpstreamUnreachable, "no answer")
	silent := fetched{err: fmt.Errorf("reflection: %w", unasked), held: b.account.NewEntry()}
	b.mu.Lock()
	err := b.noteNamed(typeNamed("a.B"), nil, silent, attempt{at: time.Now(), conns: b.backend.Readied()})
	b.mu.Unlock()
	if !errors.Is(err, unasked) {
		t.Errorf("noted as %v, want %v", err, unasked)
	}
	for _, name := range []string{"a.B", "a.C"} {
		if err := b.Learn(within(t, patience), nil, typeNamed(name)); !errors.Is(err, unasked) || streams.Load() != before {
			t.Errorf("%s: %v after %d questions, want %v", name, err, streams.Load()-before, unasked)
		}
	}
	b.mu.Lock()
	b.named.failed = time.Now().Add(-time.Minute)
	b.mu.Unlock()
	if err := b.Learn(within(t, patience), nil, typeNamed("a.B")); !errors.Is(err, descriptor.ErrUnknown) || streams.Load() != before+1 {
		t.Errorf("a minute later: %v after %d questions", err, streams.Load()-before)
	}
}

// TestDescriptorsOverTime: a backend can't have culvert read large descriptors all the time.
func TestDescriptorsOverTime(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth, withReflection)
	b := bookOf(t, ln.Addr().String())
	b.reading.SetLimit(0)
	if !b.reading.AllowN(time.Now(), b.reading.Burst()) {
		t.Fatal("nothing may be read at first")
	}
	if _, err := b.Described(within(t, patience), checkHealth); !askedOften(err) {
		t.Errorf("%v, want %v", err, errReading)
	}
}
