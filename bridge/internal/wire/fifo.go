package wire

// A fifo is a queue.
type fifo[T any] struct {
	all   []T
	taken int // of all
}

func (q *fifo[T]) push(v T) {
	if q.taken > len(q.all)/2 {
		q.all = q.all[:copy(q.all, q.all[q.taken:])]
		q.taken = 0
	}
	q.all = append(q.all, v)
}

// pop returns false if the queue is empty.
func (q *fifo[T]) pop() (v T, ok bool) {
	const most = 64 // an empty queue of more isn't worth its memory
	if q.len() == 0 {
		return v, false
	}
	v = q.all[q.taken]
	if q.taken++; q.len() == 0 && cap(q.all) > most {
		*q = fifo[T]{}
	}
	return v, true
}

func (q *fifo[T]) len() int { return len(q.all) - q.taken }
