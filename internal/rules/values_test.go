package rules

import "testing"

func TestWrongAttempts(t *testing.T) {
	for n, want := range map[int]bool{-1: true, 0: false, 1: true, 2: false, 5: false, 6: true} {
		if got := WrongAttempts(n); got != want {
			t.Errorf("%d attempts are wrong: %v, want %v", n, got, want)
		}
	}
}

func TestOrDefault(t *testing.T) {
	for v, want := range map[int]int{-2: 9, -1: 9, 0: 7, 1: 1, 8: 8} {
		if got := OrDefault(v, 7, 9); got != want {
			t.Errorf("%d means %d, want %d", v, got, want)
		}
	}
}
