package fallback

import (
	"io"
	"sync/atomic"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/progress"
)

// TestOnlySendersTimeCounts: a body is late if its sender is slow, byte by byte too, but
// not if the web server takes long between two reads.
func TestOnlySendersTimeCounts(t *testing.T) {
	const limit = 30 // seconds
	for name, c := range map[string]struct {
		size, send, take int64 // bytes of a read; seconds that the sender and the web server take for it
		late             bool
	}{
		"a slow sender":                     {progress.SlowBytes, limit + 1, 0, true},
		"a sender of a byte a second":       {1, 1, 0, true},
		"a sender of just enough":           {progress.SlowBytes / 16, 1, 0, false},
		"a web server that takes long":      {progress.SlowBytes, 1, 1000, false},
		"a web server that takes few bytes": {progress.SlowBytes / 16, 1, 1000, false},
		"both are slow":                     {1, 1, 1000, true},
	} {
		clock, late := new(atomic.Int64), false
		clock.Store(1)
		p := &progress.Record{Clock: clock}
		b := &Body{Of: p, Bytes: new(atomic.Int64)}
		b.Body = progress.NewBody(io.NopCloser(readerFunc(func(into []byte) (int, error) {
			clock.Add(c.send)
			late = late || clock.Load()-p.MessageSince()-1 >= limit // as the registry judges
			return int(c.size), nil
		})), -1)
		for range 100 {
			if n, err := b.Read(make([]byte, progress.SlowBytes)); n != int(c.size) || err != nil {
				t.Fatal(n, err)
			}
			if since := p.MessageSince(); since != 0 {
				t.Fatalf("%s: between two reads the sender is late since %d", name, since)
			}
			clock.Add(c.take)
		}
		if late != c.late {
			t.Errorf("%s: late is %v", name, late)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
