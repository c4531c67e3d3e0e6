package memory

import (
	"testing"

	"google.golang.org/grpc/mem"
)

// TestAdoptedMessage: it counts with its new entry until its last buffer is freed, also
// after the entry that has read it is settled.
func TestAdoptedMessage(t *testing.T) {
	a := New(30<<20, 0)
	for _, n := range []int{1 << 10, 3 << 10, 200 << 10} {
		from, to := a.NewEntry(), a.NewEntry()
		c := NewClaim(from)
		if err := c.Reserve(t.Context(), RequestClass(n), n); err != nil {
			t.Fatal(err)
		}
		m := mem.BufferSlice{c.Buffer(n - 100), c.Buffer(100)}
		c.Done()
		m = to.Adopt(m)
		if n == 200<<10 {
			from.Settle()
		}
		want := int64(n)
		if n <= RoomlessBytes {
			want = 0 // grpc-go's part counts it
		}
		if got := to.Messages(); got != want || m.Len() != n {
			t.Errorf("%d of %d bytes count, of a message of %d, want %d", got, n, m.Len(), want)
		}
		m.Ref()
		m.Free()
		if got := to.Messages(); got != want {
			t.Errorf("%d bytes count while a reference is left, want %d", got, want)
		}
		m.Free()
		if got := to.Messages(); got != 0 {
			t.Errorf("%d bytes of %d are left", got, n)
		}
		if got := from.Messages(); got != 0 {
			t.Errorf("%d bytes of %d are left of the entry that read them", got, n)
		}
		to.Settle()
		if held := a.Held(); held != 0 {
			t.Errorf("%d bytes are left in the account", held)
		}
	}
}

// A badPool takes no buffers back.
type badPool struct{ mem.BufferPool }

func (badPool) Put(*[]byte) { panic("a test panics in Put") }

// caught counts the panics that a call is told of.
type caught int

func (c *caught) Panicked(any) { *c++ }

// TestFreeingThatPanics tells the call, and gives the room back.
func TestFreeingThatPanics(t *testing.T) {
	const size = 100 << 10
	a := New(1<<20, 0)
	a.Pool = badPool{a.Pool}
	from, to := a.NewEntry(), a.NewEntry()
	first, second := new(caught), new(caught)
	from.Call, to.Call = first, second
	c := NewClaim(from)
	if err := c.Reserve(t.Context(), Request, size); err != nil {
		t.Fatal(err)
	}
	m := to.Adopt(mem.BufferSlice{c.Buffer(size)})
	c.Done()
	m.Free()
	if *first != 1 || *second != 0 || a.Held() != 0 {
		t.Errorf("the calls are told of %d and %d panics, and %d bytes are held; want 1, 0 and 0", *first, *second, a.Held())
	}
}
