package rules

import "testing"

func TestOrDefault(t *testing.T) {
	for v, want := range map[int]int{-2: 9, -1: 9, 0: 7, 1: 1, 8: 8} {
		if got := OrDefault(v, 7, 9); got != want {
			t.Errorf("%d means %d, want %d", v, got, want)
		}
	}
}
