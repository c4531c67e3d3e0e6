package rules

import "testing"

func TestWrongAttempts(t *testing.T) {
	for n, want := range map[int]bool{-1: true, 0: false, 1: true, 2: false, 5: false, 6: true} {
		if got := WrongAttempts(n); got != want {
			t.Errorf("%d attempts are wrong: %v, want %v", n, got, want)
		}
	}
}
