package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

// Bounds on the memory of reviews, for a container with 128 MiB, as the chart gives it.
// The rest of the program takes up to 40 MiB, and connections and requests, which
// connections.go bounds, as much.
const (
	// A body below smallBytes needs no share. Almost all reviews are, so a client that sends
	// a large one slowly, or not at all, doesn't keep them waiting.
	smallBytes = 16 << 10
	// bodiesBytes is for the larger bodies that have arrived or are arriving.
	bodiesBytes = 3 * MaxReviewBytes
	// maxWaiting is how many larger bodies may wait for memory. HTTP/2 buffers their
	// beginnings.
	maxWaiting = 100
	// bodyTimeout is how long a body may hold its share before it has arrived. By our
	// configuration the API server waits no longer.
	bodyTimeout = 5 * time.Second
	// MaxParts is the limit on the fields and list items of a review. Without it, a list
	// of empty objects takes several hundred times its text.
	MaxParts = 20000
	// partBytes is what one of them takes at most: a container of 408 bytes, in a list
	// that grows or in three copies.
	partBytes = 1536
	// podsBytes is for the pods that are read from bodies. It is enough for the largest.
	podsBytes = MaxParts*partBytes + 2*MaxReviewBytes
)

// memory is the memory of all reviews. A review first takes its share for a large body, and
// then that for the pod. So the reviews that have a pod's share never wait.
type memory struct {
	bodies, pods *semaphore.Weighted
	waiting      *semaphore.Weighted // counts those that wait for bodies
}

func newMemory() memory {
	return memory{waiting: semaphore.NewWeighted(maxWaiting), bodies: semaphore.NewWeighted(bodiesBytes), pods: semaphore.NewWeighted(podsBytes)}
}

// body reads the body of a request, when there is memory for it. The caller must call
// release when it no longer uses the body.
func (m *memory) body(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	size := r.ContentLength
	if size > MaxReviewBytes {
		return nil, nil, errTooLarge
	}
	from := http.MaxBytesReader(w, r.Body, MaxReviewBytes)
	head, err := io.ReadAll(io.LimitReader(from, smallBytes))
	if err != nil {
		return nil, nil, arrival(err)
	}
	if len(head) < smallBytes {
		return head, func() {}, nil
	}
	if size < 0 { // unknown
		size = MaxReviewBytes
	}
	if !m.waiting.TryAcquire(1) {
		return nil, nil, &httpError{fmt.Errorf("%d other large requests wait for memory", maxWaiting), http.StatusServiceUnavailable}
	}
	release, err = take(r.Context(), m.bodies, size)
	m.waiting.Release(1)
	if err != nil {
		return nil, nil, err
	}
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(bodyTimeout)) // only a test has no connection
	// With the room that ReadFrom wants at the end, the buffer never grows.
	buffer := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	buffer.Write(head)
	if _, err = buffer.ReadFrom(from); err != nil {
		release()
		return nil, nil, arrival(err)
	}
	_ = connection.SetReadDeadline(time.Time{}) // the review may wait for memory for its pod
	return buffer.Bytes(), release, nil
}

// arrival returns the error for a body that didn't arrive.
func arrival(err error) error {
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return errTooLarge
	}
	return &httpError{fmt.Errorf("the review didn't arrive: %w", err), http.StatusRequestTimeout}
}

// pod waits until there is memory for the pod in a body. It returns errTooManyParts if
// there never is. The caller must call release when it no longer uses the pod.
func (m *memory) pod(ctx context.Context, body []byte) (release func(), err error) {
	n := parts(body)
	if n > MaxParts {
		return nil, errTooManyParts
	}
	return take(ctx, m.pods, int64(n)*partBytes+2*int64(len(body))) // the object's text and its strings are copies
}

func take(ctx context.Context, from *semaphore.Weighted, n int64) (release func(), err error) {
	if err := from.Acquire(ctx, n); err != nil {
		return nil, fmt.Errorf("%w: %w", errBusy, context.Cause(ctx))
	}
	return func() { from.Release(n) }, nil
}

// parts returns the number of fields and list items in JSON: its commas. The first field or
// item of an object or a list has none, so a part may stand for a few, as deep as a pod is.
// If text isn't JSON, the result means nothing.
func parts(text []byte) int {
	n := bytes.Count(text, []byte{','})
	if n <= MaxParts { // as almost always: those in strings needn't be told apart
		return n
	}
	n = 0
	inString := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			inString = !inString
		case c == '\\':
			i++ // perhaps a quotation mark that doesn't end the string
		case c == ',' && !inString:
			n++
		}
	}
	return n
}

var errTooManyParts = fmt.Errorf("the pod has more fields and list items than the limit of %d: make it smaller, or set its label culvert.dev/inject to disabled", MaxParts)

var (
	errTooMany  = &httpError{fmt.Errorf("too many requests at once: %d, and %d of one address, may be under way", maxRequests, maxOfAddress), http.StatusServiceUnavailable}
	errTooLarge = &httpError{fmt.Errorf("the review is over the limit of %d bytes", MaxReviewBytes), http.StatusRequestEntityTooLarge}
	errBusy     = &httpError{fmt.Errorf("the request ended before there was memory for it: reviews in progress may hold %d MiB", (bodiesBytes+podsBytes)>>20), http.StatusServiceUnavailable}
)
