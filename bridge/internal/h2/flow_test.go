package h2

import "testing"

func TestOutflow(t *testing.T) {
	w := outflow(0)
	if !w.add(maxWindow) || w.add(1) || !w.add(-maxWindow-5) || w != -5 {
		t.Errorf("the window is %d, want -5, and never more than 2^31-1", w)
	}
}

// TestInflow: credit comes back in pieces worth a frame, and none is lost.
func TestInflow(t *testing.T) {
	w := newInflow(1000)
	if w.take(1001) || !w.take(1000) || w.take(1) {
		t.Error("a window of 1000 doesn't let 1000 through")
	}
	told := 0
	for range 100 {
		if n := w.give(10); n > 0 {
			if n < 250 {
				t.Errorf("%d are told, want a quarter of the window at least", n)
			}
			told += n
		}
	}
	if told != 1000 || !w.take(1000) {
		t.Errorf("after all was used %d were told, want 1000", told)
	}
}
