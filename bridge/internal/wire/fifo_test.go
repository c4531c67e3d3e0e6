package wire

import "testing"

// TestQueueGivesItsMemoryBack once it is empty, and while it is short.
func TestQueueGivesItsMemoryBack(t *testing.T) {
	var q fifo[int]
	for n := range 1000 { // at most two at a time
		q.push(n)
		q.push(n + 1)
		a, _ := q.pop()
		if b, ok := q.pop(); a != n || b != n+1 || !ok {
			t.Fatalf("%d and %d, want %d and the next", a, b, n)
		}
	}
	q.push(0)
	for n := range 1000 { // never empty
		q.push(n + 1)
		if got, _ := q.pop(); got != n {
			t.Fatalf("%d, want %d", got, n)
		}
	}
	if cap(q.all) > 8 {
		t.Errorf("a queue of two has room for %d", cap(q.all))
	}
	for n := range 1000 {
		q.push(n)
	}
	for n := -1; n < 1000; n++ {
		if got, _ := q.pop(); got != n && n >= 0 {
			t.Fatalf("%d, want %d", got, n)
		}
	}
	if _, ok := q.pop(); ok || cap(q.all) > 64 {
		t.Errorf("an empty queue has something, or room for %d", cap(q.all))
	}
}
