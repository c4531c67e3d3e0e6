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
