package buffer

import (
	"slices"
	"sync"
	"testing"
)

// TestPoolsBuffersFit: a buffer is at most a quarter larger than what it was asked for.
func TestPoolsBuffersFit(t *testing.T) {
	b := NewPool(256, 1<<20)
	for n := 256; n <= 1<<20; n += 1 + n/50 {
		if got := cap(*b.Get(n)); got < n || got > n+n/4+1 {
			t.Fatalf("asked for %d: a capacity of %d", n, got)
		}
	}
}

// TestPoolsSizes: each length gets the smallest size that fits.
func TestPoolsSizes(t *testing.T) {
	for _, b := range []Pool{NewPool(256, 1<<20), NewPool(4, 64), NewPool(8, 8)} {
		for n := range b[len(b)-1].size + 100 {
			want := slices.IndexFunc(b, func(of tier) bool { return of.size >= n })
			if want < 0 {
				want = len(b)
			}
			if i, pooled := b.from(n); i != want || pooled != (want < len(b) && b[want].size == n) {
				t.Fatalf("%d sizes, %d bytes: %d, %v; want %d", len(b), n, i, pooled, want)
			}
		}
	}
}

// TestPool: of the length that was asked for, in the smallest size that
// fits, and each is had by one at a time.
func TestPool(t *testing.T) {
	b := NewPool(256, 4<<10)
	for _, c := range []struct{ length, capacity int }{{0, 256}, {1, 256}, {256, 256}, {257, 320}, {1025, 1280}, {3585, 4 << 10}, {4 << 10, 4 << 10}, {5000, 5000}} {
		for range 2 { // the second time it may be one that was used
			buf := b.Get(c.length)
			if len(*buf) != c.length || cap(*buf) < c.length || c.length <= 4<<10 && cap(*buf) != c.capacity {
				t.Errorf("asked for %d: %d of %d bytes, want a capacity of %d", c.length, len(*buf), cap(*buf), c.capacity)
			}
			b.Put(buf)
		}
	}
	var users sync.WaitGroup
	for id := range byte(8) {
		users.Go(func() {
			for range 1000 {
				buf := b.Get(100)
				for i := range *buf {
					(*buf)[i] = id
				}
				for _, got := range *buf {
					if got != id {
						t.Errorf("a buffer of %d holds what %d wrote", id, got)
						return
					}
				}
				b.Put(buf)
			}
		})
	}
	users.Wait()
}
