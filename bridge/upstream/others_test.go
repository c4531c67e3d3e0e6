package upstream

import (
	"errors"
	"fmt"
	"net"
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

	"github.com/culvert-grpc/culvert/bridge/descriptor"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
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
	account := memory.New(1<<30, 1<<30)
	u, err := New(report.Backend{Target: ln.Addr().String()}, testMessages, testHeaderBytes, account, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := u.Described(within(t, patience), checkHealth)
	if err != nil {
		t.Fatal(err)
	}
	before := account.Held()
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			if err := u.Learn(within(t, patience), nil, typeNamed("grpc.reflection.v1.ErrorResponse")); err != nil {
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
		if err := u.Learn(within(t, patience), nil, typeNamed("a.None")); !errors.Is(err, descriptor.ErrUnknown) {
			t.Errorf("%v, want %v", err, descriptor.ErrUnknown)
		}
	}
	if n := streams.Load(); n != 3 {
		t.Errorf("asked by %d streams, want 3", n)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	poll(t, func() string { // connections give back theirs, too
		if n := account.Held(); n != 0 {
			return fmt.Sprintf("%d bytes are held after the end", n)
		}
		return ""
	})
	if err := u.Learn(within(t, patience), nil, typeNamed("a.Other")); err == nil || errors.Is(err, descriptor.ErrUnknown) {
		t.Errorf("after the end: %v", err)
	}
}

// TestInventedTypesAskSeldom: at most ten a minute, and one address leaves some to others.
func TestInventedTypesAskSeldom(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	if _, err := u.Described(within(t, patience), checkHealth); err != nil {
		t.Fatal(err)
	}
	before, addresses := streams.Load(), make([]memory.Address, 30)
	var refused int
	for k := range addresses {
		for i := range 30 {
			err := u.Learn(within(t, patience), &addresses[k], typeNamed(fmt.Sprintf("a%d.B%d", k, i)))
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
	if err := u.Learn(within(t, patience), &addresses[9], typeNamed("a0.B0")); !errors.Is(err, descriptor.ErrUnknown) {
		t.Errorf("a name from before: %v", err)
	}
}

// TestNamesThatNobodyKnowsAreBounded: the address with most of them loses its oldest.
func TestNamesThatNobodyKnowsAreBounded(t *testing.T) {
	var o others
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

// TestOthersAreBounded: the address that had most of them fetched loses its oldest.
func TestOthersAreBounded(t *testing.T) {
	l := &learned{}
	o := &l.others
	o.known = make(map[descriptor.Unknown]*other)
	var many, few memory.Address
	fetched := time.Now()
	know := func(name string, by *memory.Address, age time.Duration) {
		s := &other{by: by}
		s.at, s.set = fetched.Add(-age), new(descriptor.Set)
		o.known[typeNamed(name)] = s
	}
	know("few", &few, time.Hour)
	for i := range 3 {
		know(fmt.Sprint("many", i), &many, time.Duration(i)*time.Minute)
	}
	o.evict(l)
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
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	if _, err := u.Described(within(t, patience), checkHealth); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second answer is remembered
		err := u.Learn(within(t, patience), nil, typeNamed("half.Event"))
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

// TestReconnectingBackend: calls go on by what is known.
func TestReconnectingBackend(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	streams, stop := describing(t, ln, withHealth, withReflection)
	u := upstreamTo(t, report.Backend{Target: address})
	asked, began := int32(0), time.Now()
	for range maxAsked + 5 {
		if _, err := u.Described(within(t, patience), checkHealth); err != nil {
			t.Fatal(err)
		}
		before := u.pool.readied.Load()
		stop()
		asked += streams.Load()
		next, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		streams, stop = describing(t, next, withHealth, withReflection)
		poll(t, func() string {
			if u.pool.readied.Load() == before {
				return "no new connection"
			}
			return ""
		})
	}
	if asked > maxAsked+2 && time.Since(began) < time.Minute {
		t.Errorf("asked %d times, want at most %d a minute", asked, maxAsked)
	}
}

// TestReconnectsAskSeldom: what a message has named and the backend knew is asked for
// again after new connections, and no more often than the rest. Until then messages are
// converted by the descriptors from before, also while the backend doesn't answer.
func TestReconnectsAskSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubbleBackend{t: t}
		streams, stop := b.serve(withHealth, withReflection)
		u := upstreamTo(t, b.backend())
		m, err := u.Described(t.Context(), checkHealth)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"ErrorResponse", "ExtensionRequest", "FileDescriptorResponse", "ListServiceResponse", "ServerReflectionRequest", "ServiceResponse"}
		addresses := make([]memory.Address, 4)
		learn := func(name string, by int) error {
			return u.Learn(t.Context(), &addresses[by], typeNamed("grpc.reflection.v1."+name))
		}
		for i, name := range names {
			if err := learn(name, i%2); err != nil {
				t.Fatal(err)
			}
		}
		elapse(time.Minute)
		asked := int32(0)
		for range 5 { // connections, in seconds
			conns := u.pool.readied.Load()
			stop()
			streams, stop = b.serve(withHealth, withReflection)
			for u.pool.readied.Load() == conns {
				elapse(10 * time.Millisecond)
			}
			for _, name := range names {
				for by := range addresses {
					if err := learn(name, by); err != nil {
						t.Errorf("%s by %d: %v", name, by, err)
					}
				}
			}
			for by := range addresses {
				if err := learn("Invented", by); !errors.Is(err, descriptor.ErrUnknown) && !askedOften(err) {
					t.Error(err)
				}
			}
			if m.Request.Now() == m.Request {
				t.Error("nothing is in use from before")
			}
			asked += streams.Load()
		}
		if asked != maxNamedAsked {
			t.Errorf("asked %d times within a minute, want %d", asked, maxNamedAsked)
		}

		elapse(time.Minute)
		before := streams.Load()
		if m.Request.Now() != m.Request {
			t.Error("a minute later the descriptors from before are still in use")
		}
		if err := learn(names[0], 0); err != nil || streams.Load() != before+1 || m.Request.Now() == m.Request {
			t.Errorf("a minute later: %v, after %d questions", err, streams.Load()-before)
		}

		elapse(time.Minute)
		conns := u.pool.readied.Load()
		stop()
		streams, stop = b.serve(withHealth, withHangingReflection)
		for u.pool.readied.Load() == conns {
			elapse(10 * time.Millisecond)
		}
		for _, name := range names[:2] {
			if err := learn(name, 0); err != nil || m.Request.Now() == m.Request {
				t.Errorf("%s of a backend that doesn't answer: %v", name, err)
			}
		}
		if err := learn("Invented", 0); err == nil || errors.Is(err, descriptor.ErrUnknown) {
			t.Errorf("a name that wasn't known: %v", err)
		}
		if n := streams.Load(); n != 1 {
			t.Errorf("%d questions wait for a backend that doesn't answer, want 1", n)
		}
		stop()
	})
}

// TestDescriptorsCount: without room in the account they aren't read.
func TestDescriptorsCount(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth, withReflection)
	account := memory.New(1<<30, 1<<30)
	u, err := New(report.Backend{Target: ln.Addr().String()}, testMessages, testHeaderBytes, account, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := u.Services(within(t, patience)); err != nil { // so there is a connection
		t.Fatal(err)
	}
	before, full := account.Held(), account.NewEntry()
	for n := int64(1 << 28); n >= 1<<10; n /= 2 {
		for full.Keep(n) {
		}
	}
	var f *report.Fault
	if _, err := u.Described(within(t, patience), checkHealth); !errors.As(err, &f) || f.Key != report.KeyMemory {
		t.Errorf("without room: %v", err)
	}
	full.Settle()
	if held := account.Held(); held > before+3000 { // a file takes more, and what is on its way from the backend less
		t.Errorf("%d bytes are held after a fetch in vain, %d before", held, before)
	}
}

// TestSilentReflectionDelaysFewMessages: after a question in vain, nobody asks for a minute.
func TestSilentReflectionDelaysFewMessages(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	if _, err := u.Described(within(t, patience), checkHealth); err != nil {
		t.Fatal(err)
	}
	before, unasked := streams.Load(), report.New(report.ReasonUpstreamUnreachable, "no answer")
	silent := fetched{err: fmt.Errorf("reflection: %w", unasked), held: u.learned.account.NewEntry()}
	u.learned.mu.Lock()
	err := u.learned.noteOther(typeNamed("a.B"), nil, silent, attempt{at: time.Now(), conns: u.pool.readied.Load()})
	u.learned.mu.Unlock()
	if !errors.Is(err, unasked) {
		t.Errorf("noted as %v, want %v", err, unasked)
	}
	for _, name := range []string{"a.B", "a.C"} {
		if err := u.Learn(within(t, patience), nil, typeNamed(name)); !errors.Is(err, unasked) || streams.Load() != before {
			t.Errorf("%s: %v after %d questions, want %v", name, err, streams.Load()-before, unasked)
		}
	}
	u.learned.mu.Lock()
	u.learned.others.failed = time.Now().Add(-time.Minute)
	u.learned.mu.Unlock()
	if err := u.Learn(within(t, patience), nil, typeNamed("a.B")); !errors.Is(err, descriptor.ErrUnknown) || streams.Load() != before+1 {
		t.Errorf("a minute later: %v after %d questions", err, streams.Load()-before)
	}
}

// TestDescriptorsOverTime: a backend can't have culvert read large descriptors all the time.
func TestDescriptorsOverTime(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth, withReflection)
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	u.learned.reading.SetLimit(0)
	if !u.learned.reading.AllowN(time.Now(), u.learned.reading.Burst()) {
		t.Fatal("nothing may be read at first")
	}
	if _, err := u.Described(within(t, patience), checkHealth); !askedOften(err) {
		t.Errorf("%v, want %v", err, errReading)
	}
}
