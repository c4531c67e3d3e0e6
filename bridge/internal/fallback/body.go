package fallback

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/internal/progress"
)

// A Body is the request's body. It notes how long the client takes for each KiB, but
// not how long the web server takes to accept it.
type Body struct {
	*progress.Body
	Of    *progress.Record
	Bytes *atomic.Int64 // counts what was read

	// Panicked is told of a panic in Read, which http.Transport calls on a goroutine of its
	// own. It returns the error of Read.
	Panicked func(v any) error

	mu     sync.Mutex
	failed error
}

func (b *Body) Read(p []byte) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			n, err = 0, b.Panicked(v)
			b.fail(err)
		}
	}()
	b.Of.BeginBody()
	n, err = b.Body.Read(p)
	b.Of.EndBody(n)
	b.Bytes.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		b.fail(err)
	}
	return n, err
}

func (b *Body) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = err
}

// Err returns why the body could not be read, or nil.
func (b *Body) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}
