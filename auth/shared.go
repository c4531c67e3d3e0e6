package auth

import "sync/atomic"

// A part is what several Authenticators use, each after the other, over reloads.
type part[T any] struct {
	value T
	close func()
	users atomic.Int32
}

// newPart returns a part that the caller uses.
func newPart[T any](value T, end func()) *part[T] {
	p := &part[T]{value: value, close: end}
	p.users.Store(1)
	return p
}

// take reports whether the part has another user now. A part that nobody uses is closed.
func (p *part[T]) take() bool {
	for n := p.users.Load(); n > 0; n = p.users.Load() {
		if p.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// release ends a use. The last one closes the part.
func (p *part[T]) release() {
	if p.users.Add(-1) == 0 {
		p.close()
	}
}
