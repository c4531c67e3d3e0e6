package jwt

import (
	"context"
	"errors"
	"sync"

	"github.com/culvert-grpc/culvert/auth/internal/cache"
)

var errBroken = errors.New("BUG: the verification of the token panicked")

// A flight is a token that is being verified.
type flight struct {
	done    chan struct{} // closed when verdict is there
	verdict *verdict      // nil if its caller gave up, and somebody else must verify the token
}

// flights are the tokens that are being verified, by their hashes: at most one a caller.
type flights struct {
	mu  sync.Mutex
	all map[cache.Key]*flight
}

// join returns the flight of a token, and whether the caller must make it, and land it.
func (f *flights) join(key cache.Key) (_ *flight, own bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if there := f.all[key]; there != nil {
		return there, false
	}
	mine := &flight{done: make(chan struct{})}
	f.all[key] = mine
	return mine, true
}

func (f *flights) land(key cache.Key, mine *flight) {
	f.mu.Lock()
	delete(f.all, key)
	f.mu.Unlock()
	close(mine.done)
}

// once returns the verdict of verify, which runs once for all that bring the token at the same
// time, on the goroutine and with the context of one of them. If that context ends, another one
// goes on.
func (f *flights) once(ctx context.Context, key cache.Key, verify func(context.Context) *verdict) *verdict {
	for {
		there, own := f.join(key)
		if own {
			return f.fly(ctx, key, there, verify)
		}
		select {
		case <-there.done:
			if there.verdict != nil {
				return there.verdict
			}
		case <-ctx.Done():
			return &verdict{err: unavailable(context.Cause(ctx))}
		}
	}
}

func (f *flights) fly(ctx context.Context, key cache.Key, mine *flight, verify func(context.Context) *verdict) *verdict {
	mine.verdict = &verdict{err: unavailable(errBroken)} // for the others, if verify panics
	defer f.land(key, mine)
	v := verify(ctx)
	mine.verdict = v
	if v.err != nil && v.err.Kind == Unavailable && ctx.Err() != nil {
		mine.verdict = nil
	}
	return v
}
