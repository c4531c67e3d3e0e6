package webcall

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/codec"
)

const (
	// wholeWithin is how long a request may take to be whole, to be sent with its length:
	// some boxes refuse those without.
	wholeWithin = 20 * time.Millisecond

	// maxGathered bounds a request that is sent when it is whole, in bytes.
	maxGathered = 16<<20 + codec.FrameHeaderBytes

	// maxGatheredInAll bounds those of all calls together, in bytes. Their buffers may have up
	// to twice as many.
	maxGatheredInAll = 64 << 20

	// maxAhead is how many bytes are read before anybody takes them, otherwise.
	maxAhead = 64 << 10

	// gatherPatience is how long a request that has to be whole may add nothing: its client
	// may wait for an answer, which can't come.
	gatherPatience = 10 * time.Second
)

var (
	errHeld    = errors.New("the client waits for an answer before it ends its request")
	errTooMuch = errors.New("the request is too large to be sent whole")
	errTooMany = errors.New("the requests of all calls are too large to be held until they are whole")
)

// An account has the bytes that may still be kept, for all calls.
type account struct{ left atomic.Int64 }

// take takes bytes of the account, or nothing if it has less.
func (a *account) take(n int) bool {
	if a.left.Add(-int64(n)) >= 0 {
		return true
	}
	a.give(n)
	return false
}

func (a *account) give(n int) { a.left.Add(int64(n)) }

// A request is a call's, on its way from the HTTP/2 end to the edge.
type request struct {
	mu      sync.Mutex
	changed sync.Cond
	ahead   bytes.Buffer
	err     error // of the source; io.EOF is its end
	most    int   // bytes of ahead
	bytes   int64 // read so far
	closed  bool  // nobody reads any more

	account *account // of the bytes that are gathered; nil: none are
	taken   int      // of it
}

// pay takes bytes of the account, if the request is gathered.
func (q *request) pay(n int) bool {
	if q.account == nil {
		return true
	}
	if !q.account.take(n) {
		return false
	}
	q.taken += n
	return true
}

// free gives back what was taken of the account, once nothing reads any more.
func (q *request) free() {
	if q.account != nil {
		q.account.give(q.taken)
	}
}

// read reads the source until its end, or until the request is closed.
func (q *request) read(source io.Reader) {
	p := make([]byte, 16<<10)
	for {
		n, err := source.Read(p)
		q.mu.Lock()
		if !q.pay(n) {
			n, err = 0, errTooMany
		}
		q.ahead.Write(p[:n])
		q.bytes += int64(n)
		q.err = err
		q.changed.Broadcast()
		for q.ahead.Len() >= q.most && !q.closed {
			q.changed.Wait()
		}
		over := q.closed || q.err != nil
		q.mu.Unlock()
		if over {
			return
		}
	}
}

// Read is the body's of the request to the edge.
func (q *request) Read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.ahead.Len() == 0 && q.err == nil && !q.closed {
		q.changed.Wait()
	}
	switch {
	case q.closed:
		return 0, http.ErrBodyReadAfterClose
	case q.ahead.Len() == 0:
		return 0, q.err
	}
	n, _ := q.ahead.Read(p) // a buffer with bytes
	q.changed.Broadcast()
	return n, nil
}

// Close ends the request, whoever waits for it.
func (q *request) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
	return nil
}

// rest returns what is left of a request that has been read to its end, or nil.
func (q *request) rest() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !errors.Is(q.err, io.EOF) {
		return nil
	}
	return q.ahead.Bytes()
}

// whole waits until the request is whole, and returns its length. It is -1 if it isn't within
// a moment.
func (q *request) whole(ctx context.Context) (int64, error) {
	return q.await(ctx, wholeWithin, maxAhead, func() error { return nil })
}

// gather waits until the request is whole, however long, as long as it grows.
func (q *request) gather(ctx context.Context, a *account) (int64, error) {
	before, ok := q.grow(a)
	if !ok {
		return -1, errTooMany
	}
	for {
		n, err := q.await(ctx, gatherPatience, maxGathered, func() error {
			switch {
			case q.ahead.Len() >= maxGathered:
				return errTooMuch
			case q.bytes == before:
				return errHeld
			}
			before = q.bytes
			return nil
		})
		if n >= 0 || err != nil {
			return n, err
		}
	}
}

// grow lets the request have maxGathered bytes, of the account. It returns how many have come.
func (q *request) grow(a *account) (came int64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.account, q.most = a, maxGathered
	q.changed.Broadcast()
	return q.bytes, q.pay(q.ahead.Len())
}

// await waits for the end, for most bytes, or for a time. After that it returns what late does,
// which runs under the lock.
func (q *request) await(ctx context.Context, patience time.Duration, most int, late func() error) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.changed.Broadcast()
	})()
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.err == nil && q.ahead.Len() < most && ctx.Err() == nil {
		q.changed.Wait()
	}
	switch {
	case errors.Is(q.err, io.EOF):
		return q.bytes, nil
	case q.err != nil:
		return -1, q.err
	}
	return -1, late()
}
