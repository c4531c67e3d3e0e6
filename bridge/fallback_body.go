package bridge

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/progress"
)

// A webBody is the request's body. It notes how long the client takes for each KiB, but
// not how long the web server takes to accept it.
type webBody struct {
	io.ReadCloser
	of    *progress.Record
	bytes *atomic.Int64
	atEnd atomic.Bool

	few    int   // bytes since the last KiB; only the reader uses it
	waited int64 // seconds that were waited for them; likewise

	mu     sync.Mutex
	failed error
}

func (b *webBody) Read(p []byte) (int, error) {
	began := b.of.Clock.Load() - b.waited
	b.of.Crumbs.Store(max(began, 1))
	b.of.Receiving.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.of.Receiving.Store(false)
	b.of.Crumbs.Store(0)
	b.bytes.Add(int64(n))
	if b.few += n; b.few >= progress.SlowBytes {
		b.few, b.waited = 0, 0
	} else {
		b.waited = b.of.Clock.Load() - began
	}
	switch {
	case errors.Is(err, io.EOF):
		b.atEnd.Store(true)
	case err != nil:
		b.mu.Lock()
		b.failed = err
		b.mu.Unlock()
	}
	return n, err
}

// err returns why the body could not be read, or nil.
func (b *webBody) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}
