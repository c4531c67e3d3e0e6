package edge

import "testing"

func TestSpreadKeepsNoLimit(t *testing.T) {
	if got := Spread(100).Of(0); got != 0 {
		t.Errorf("no limit became %v", got)
	}
}
