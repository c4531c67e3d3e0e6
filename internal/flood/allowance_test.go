package flood

import (
	"testing"
	"time"
)

// TestAllowance comes back with time, and what is earned is bounded.
func TestAllowance(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var a Allowance
	if !a.Spend(99, now, 100, 10) {
		t.Error("99 of 100 are too many")
	}
	if a.Spend(1, now, 100, 10) {
		t.Error("100 of 100 are not")
	}
	now = now.Add(150 * time.Millisecond) // one came back, and half of another
	if !a.Spend(0, now, 100, 10) {
		t.Error("nothing came back")
	}
	if now = now.Add(50 * time.Millisecond); !a.Spend(1, now, 100, 10) {
		t.Error("the half was lost")
	}
	now = now.Add(1000 * time.Hour)
	if a.Spend(0, now, 100, 10); a.spent != 0 {
		t.Errorf("%d are spent after a long time, want 0", a.spent)
	}
	a.Spend(50, now, 100, 10)
	if a.Earn(80, 0); a.spent != 0 {
		t.Errorf("%d are spent, want 0: nothing is to be saved", a.spent)
	}
	for range 100 {
		a.Earn(80, 200)
	}
	if a.spent != -200 {
		t.Errorf("%d are spent, want -200", a.spent)
	}
	if a.Earn(1, 0); a.spent != -200 {
		t.Errorf("%d are spent, want -200: what was saved stays", a.spent)
	}
}
