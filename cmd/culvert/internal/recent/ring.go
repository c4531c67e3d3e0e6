package recent

// A ring keeps the last values, at most so many.
type ring[T any] struct {
	most   int
	values []T
	next   int // where the next one goes, once it is full
}

func (r *ring[T]) add(v T) {
	if len(r.values) < r.most {
		r.values = append(r.values, v)
		return
	}
	r.values[r.next] = v
	r.next = (r.next + 1) % r.most
}

// newest calls yield with the values, the newest first.
func (r *ring[T]) newest(yield func(T)) {
	for i := range r.values {
		yield(r.values[(r.next+len(r.values)-1-i)%len(r.values)])
	}
}
