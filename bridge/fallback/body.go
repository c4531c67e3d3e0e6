package fallback

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/progress"
)

// A Body is the request's body. It notes how long the client takes for each KiB, but
// not how long the web server takes to accept it.
type Body struct {
	io.ReadCloser
	Of    *progress.Record
	Bytes *atomic.Int64 // counts what was read
	AtEnd atomic.Bool

	few    int   // bytes since the last KiB; only the reader uses it
	waited int64 // seconds that were waited for them; likewise

	mu     sync.Mutex
	failed error
}

func (b *Body) Read(p []byte) (int, error) {
	began := b.Of.Clock.Load() - b.waited
	b.Of.Crumbs.Store(max(began, 1))
	b.Of.Receiving.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.Of.Receiving.Store(false)
	b.Of.Crumbs.Store(0)
	b.Bytes.Add(int64(n))
	if b.few += n; b.few >= progress.SlowBytes {
		b.few, b.waited = 0, 0
	} else {
		b.waited = b.Of.Clock.Load() - began
	}
	switch {
	case errors.Is(err, io.EOF):
		b.AtEnd.Store(true)
	case err != nil:
		b.mu.Lock()
		b.failed = err
		b.mu.Unlock()
	}
	return n, err
}

// Err returns why the body could not be read, or nil.
func (b *Body) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}
