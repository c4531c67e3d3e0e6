package webhook

import (
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// post returns the result of a request for the memory of its body.
func (m *memory) post(ctx context.Context, body io.Reader, size int64) (release func(), err error) {
	r := httptest.NewRequestWithContext(ctx, "POST", PodPath, body)
	r.ContentLength = size
	_, release, err = m.body(httptest.NewRecorder(), r)
	return release, err
}

// TestBodiesWaitForMemory has requests that hold all memory for large bodies, and send no
// more. A small one doesn't wait. Another large one waits until its client gives up, or
// until one of them has ended.
func TestBodiesWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		large := strings.Repeat(" ", smallBytes)
		var posting sync.WaitGroup
		var silent []*io.PipeWriter
		for range bodiesBytes / MaxReviewBytes {
			in, out := io.Pipe()
			silent = append(silent, out)
			posting.Go(func() {
				if _, err := m.post(t.Context(), io.MultiReader(strings.NewReader(large), in), -1); statusOf(err) != 408 || !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("a body that didn't arrive: %v", err)
				}
			})
		}
		synctest.Wait()

		release, err := m.post(t.Context(), strings.NewReader("{}"), 2) // in a bubble, a wait would be a deadlock
		if err != nil {
			t.Error(err)
		}
		release()

		ctx, cancel := context.WithCancel(t.Context())
		posting.Go(func() {
			if _, err := m.post(ctx, strings.NewReader(large), smallBytes); !errors.Is(err, errBusy) || verdictOf(err) != busy || statusOf(err) != 503 {
				t.Errorf("%v: want %v", err, errBusy)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()

		arrived := false
		posting.Go(func() {
			release, err := m.post(t.Context(), strings.NewReader(large), smallBytes)
			if err != nil {
				t.Error(err)
				return
			}
			arrived = true
			release()
		})
		synctest.Wait()
		if arrived {
			t.Error("a body was read, without memory for it")
		}
		silent[0].CloseWithError(io.ErrClosedPipe)
		synctest.Wait()
		if !arrived {
			t.Error("a body waits, and there is memory for it")
		}
		for _, out := range silent {
			out.CloseWithError(io.ErrClosedPipe)
		}
		posting.Wait()
		if !m.bodies.TryAcquire(bodiesBytes) {
			t.Error("not all memory is free at the end")
		}
	})
}

// TestPodsWaitForMemory has the largest pod, which leaves memory for no other.
func TestPodsWaitForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		largest := []byte(strings.Repeat(",", MaxParts) + strings.Repeat(" ", MaxReviewBytes-MaxParts))
		release, err := m.pod(t.Context(), largest)
		if err != nil {
			t.Fatal(err)
		}
		var waiting sync.WaitGroup
		waiting.Go(func() {
			release, err := m.pod(t.Context(), []byte("{}"))
			if err != nil {
				t.Error(err)
				return
			}
			release()
		})
		synctest.Wait() // it waits
		if m.pods.TryAcquire(1) {
			t.Error("the largest pod leaves memory for another")
		}
		release()
		waiting.Wait()
		if !m.pods.TryAcquire(podsBytes) {
			t.Error("not all memory is free at the end")
		}
	})
}
