package bridge

import (
	"io"
	"sync/atomic"
	"testing"
)

// TestOnlySendersTimeCounts: a body is late if its sender is slow, byte by byte too, but
// not if the web server takes long between two reads.
func TestOnlySendersTimeCounts(t *testing.T) {
	const limit = 30 // seconds
	for name, c := range map[string]struct {
		size, send, take int64 // bytes of a read; seconds that the sender and the web server take for it
		late             bool
	}{
		"a slow sender":                     {slowBytes, limit + 1, 0, true},
		"a sender of a byte a second":       {1, 1, 0, true},
		"a sender of just enough":           {slowBytes / 16, 1, 0, false},
		"a web server that takes long":      {slowBytes, 1, 1000, false},
		"a web server that takes few bytes": {slowBytes / 16, 1, 1000, false},
		"both are slow":                     {1, 1, 1000, true},
	} {
		clock, late := new(atomic.Int64), false
		clock.Store(1)
		p := &progress{clock: clock}
		b := &webBody{of: p, bytes: new(atomic.Int64)}
		b.ReadCloser = io.NopCloser(readerFunc(func(into []byte) (int, error) {
			clock.Add(c.send)
			late = late || elapsed(clock.Load(), p.messageSince()).Seconds() >= limit
			return int(c.size), nil
		}))
		for range 100 {
			if n, err := b.Read(make([]byte, slowBytes)); n != int(c.size) || err != nil {
				t.Fatal(n, err)
			}
			if since := p.messageSince(); since != 0 {
				t.Fatalf("%s: between two reads the sender is late since %d", name, since)
			}
			clock.Add(c.take)
		}
		if late != c.late {
			t.Errorf("%s: late is %v", name, late)
		}
	}
}
