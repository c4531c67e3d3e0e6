package quota

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"
)

// turns are those of each address that decompresses large messages, or waits for that.
type turns struct {
	mu sync.Mutex
	of map[*Address]*turnsOf
}

type turnsOf struct {
	taken *semaphore.Weighted
	users int // that have a turn or wait for one
}

// take waits for a turn of the address. The caller must call done after it.
func (t *turns) take(ctx context.Context, a *Address) (done func(), err error) {
	of := t.enter(a)
	if of.taken.Acquire(ctx, 1) != nil {
		t.leave(a, of)
		return nil, context.Cause(ctx)
	}
	return func() {
		of.taken.Release(1)
		t.leave(a, of)
	}, nil
}

func (t *turns) enter(a *Address) *turnsOf {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.of[a]
	if of == nil {
		if t.of == nil {
			t.of = make(map[*Address]*turnsOf)
		}
		of = &turnsOf{taken: semaphore.NewWeighted(int64(max(2, runtime.GOMAXPROCS(0))))}
		t.of[a] = of
	}
	of.users++
	return of
}

func (t *turns) leave(a *Address, of *turnsOf) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if of.users--; of.users == 0 {
		delete(t.of, a)
	}
}
