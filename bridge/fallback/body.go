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
	*progress.Body
	Of    *progress.Record
	Bytes *atomic.Int64 // counts what was read

	mu     sync.Mutex
	failed error
}

func (b *Body) Read(p []byte) (int, error) {
	b.Of.BeginBody()
	n, err := b.Body.Read(p)
	b.Of.EndBody(n)
	b.Bytes.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
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
