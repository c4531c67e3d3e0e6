package bridge

import (
	"slices"
	"testing"
	"time"
)

func TestAgesOfCalls(t *testing.T) {
	g := &registry{traffic: make(map[trafficKey]*Traffic)}
	const day = 24 * 60 * 60
	now := int64(3 * day)
	g.clock.Store(now)
	for _, looks := range []int64{-1, 0, 1, 2, 60, 61, 3600, 3601, day, day + 1, 2 * day} { // a call is surely as old as the looks but its first
		g.calls = append(g.calls, &watched{began: int32(now - looks), totals: g.totals(trafficKey{})})
	}
	want := []AgeCount{{time.Second, 3}, {time.Minute, 2}, {time.Hour, 2}, {24 * time.Hour, 2}, {0, 2}}
	var got Snapshot
	if g.count(&got); !slices.Equal(got.Ages, want) {
		t.Errorf("ages %+v, want %+v", got.Ages, want)
	}
}
