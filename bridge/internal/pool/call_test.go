package pool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/balancer"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
)

// leave has the headers of a call leave, on a connection of its own.
func leave(t testing.TB, p *wire.Place) {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	a := memory.New(1<<20, 0)
	c := wire.NewConn(near, wire.Options{Account: a, Window: wire.ConnWindow(a)})
	defer c.Close()
	if taken, err := c.Expect(t.Context(), p); !taken || err != nil {
		t.Fatal("the call isn't expected", err)
	}
	request := bytes.NewBufferString(http2.ClientPreface)
	writeHeaders(http2.NewFramer(request, nil), 1, false, "x-request-id", p.Call.ID)
	go func() { _, _ = io.Copy(io.Discard, far) }() // ends with far
	if _, err := c.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
}

func writeHeaders(f *http2.Framer, stream uint32, ends bool, fields ...string) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // to memory
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: ends}) // who reads meets it
}

// TestUnusedPickIsNoRefusal: grpc-go asks for another place if it finds the connection of
// the first one lost. The address gets calls as before.
func TestUnusedPickIsNoRefusal(t *testing.T) {
	for _, written := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := poolTo(t, newSeveral(t, 2, 100).Backend)
			p.client.Connect()
			synctest.Wait()
			k := p.NewCall("", 0, nil)
			p.mu.Lock()
			c := p.take(nil)
			p.mu.Unlock()
			its := &place{Place: wire.Place{Call: &k.Call}, conn: c}
			k.place.Store(its)
			if written {
				leave(t, &its.Place)
			}
			its.done(balancer.DoneInfo{})
			p.mu.Lock()
			k.repick()
			avoided := c.slot.address.avoided != nil
			p.mu.Unlock()
			if avoided != written || len(k.refused) > 0 != written || !k.replayed.Load() {
				t.Errorf("written %v: avoided %v, refused at %v", written, avoided, k.refused)
			}
		})
	}
}

// TestLostCallIsNoRefusal: an address whose connection was lost before the call was sent
// on it hasn't refused the call.
func TestLostCallIsNoRefusal(t *testing.T) {
	for _, written := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := poolTo(t, newSeveral(t, 2, 100).Backend)
			synctest.Wait()
			k := p.NewCall("", 0, nil)
			p.mu.Lock()
			c := p.take(nil)
			p.mu.Unlock()
			its := &place{Place: wire.Place{Call: &k.Call}, conn: c}
			k.place.Store(its)
			if written {
				leave(t, &its.Place)
			}
			its.done(balancer.DoneInfo{})
			k.NoteRefusal()
			p.mu.Lock()
			defer p.mu.Unlock()
			if avoided := c.slot.address.avoided != nil; avoided != written || len(k.refused) > 0 != written {
				t.Errorf("written %v: avoided %v, refused at %v", written, avoided, k.refused)
			}
		})
	}
}

// TestGrantIsCheap: while refused calls wait, each call's end takes little time with the
// pool locked.
func TestGrantIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := poolTo(t, newSeveral(t, 50, 100).Backend)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, a := range p.addresses[1:] {
			for _, s := range a.slots {
				s.conn.max = 0
			}
		}
		for i := range maxPassed {
			p.queue.PushBack(&waiter{refused: p.addresses[:1+i%49], ended: make(chan struct{})})
		}
		if n := testing.AllocsPerRun(10, p.seat); n > 2 {
			t.Errorf("%v allocations to find that no waiting call can use the room, want 2", n)
		}
		for p.queue.Len() > 0 {
			p.queue.Remove(p.queue.Front())
		}
	})
}

// TestWaitForAPlaceOutlastsALoss: the connection is lost and made again, and is full then.
func TestWaitForAPlaceOutlastsALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		b.MaxConnections, b.QueueTimeout = 1, time.Minute
		b.Backend.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			time.Sleep(connectGrace / 2)
			return b.DialTo(ctx, address)
		}
		p := poolTo(t, b.Backend)
		time.Sleep(connectGrace)
		holding(t, p, 1)
		opened := make(chan context.CancelFunc, 2)
		for range 2 {
			go func() {
				ctx, cancel := context.WithCancel(t.Context())
				if _, err := openCall(ctx, p); err != nil {
					t.Errorf("a call: %v", err)
				}
				opened <- cancel
			}()
		}
		synctest.Wait()
		b.Crash()
		b.Up()
		time.Sleep(10 * connectGrace)
		if n := len(opened); n != 1 {
			t.Fatalf("%d calls got a place, want 1", n)
		}
		(<-opened)()
		synctest.Wait()
		if len(opened) != 1 {
			t.Fatal("the second call got no place")
		}
		(<-opened)()
	})
}

// TestLostConnectionIsPickedAgain: a call that was to begin on a connection that is lost gets
// a place on another one, which expects it.
func TestLostConnectionIsPickedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := poolTo(t, newSeveral(t, 1, 100).Backend)
		synctest.Wait()
		pick := func() (*Call, balancer.PickResult) {
			k := p.NewCall("one", 0, nil)
			result, err := balancing{p}.Pick(balancer.PickInfo{Ctx: context.WithValue(t.Context(), callKey{}, k)})
			if err != nil {
				t.Fatal(err)
			}
			return k, result
		}
		_, lost := pick()
		var wire *wire.Conn
		p.mu.Lock()
		wire = p.addresses[0].slots[0].conn.wire
		p.mu.Unlock()
		wire.Cut()
		synctest.Wait()
		again, result := pick()
		if again.place.Load().conn.wire == wire || result.SubConn == lost.SubConn {
			t.Error("the call has a place on the lost connection, or its SubConn")
		}
		lost.Done(balancer.DoneInfo{})
		result.Done(balancer.DoneInfo{})
	})
}

// TestLateStreams: a call is given up in time without a connection, and after as much time
// again if there is one, since it may be culvert that is late.
func TestLateStreams(t *testing.T) {
	for name, test := range map[string]struct {
		ready bool
		want  time.Duration
	}{
		"no connection": {false, time.Second},
		"a connection":  {true, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := new(Pool)
				if !test.ready {
					p.absent.Store(absentForLong)
				}
				for range 2 {
					begin, ended := time.Now(), make(chan error, 1)
					o := p.openings.start(p, time.Second, func(err error) { ended <- err }, false)
					if err := <-ended; !errors.Is(err, ErrPatience) || time.Since(begin) != test.want || p.openings.stop(o) {
						t.Errorf("given up with %v after %v, want %v after %v", err, time.Since(begin), ErrPatience, test.want)
					}
				}
				o := p.openings.start(p, time.Second, func(err error) { t.Errorf("a call that has its stream is given up with %v", err) }, false)
				if test.ready {
					time.Sleep(3 * time.Second / 2)
				}
				if !p.openings.stop(o) {
					t.Error("a call that is in time is late")
				}
				time.Sleep(time.Hour)
			})
		})
	}
}
