package bridge

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/quota"
)

func TestFirstMethodThatMatchesCounts(t *testing.T) {
	counts, q := make(methodCounts), quota.New(Quota{}, Quota{}, false, nil)
	limits, err := counts.limits([]MethodQuota{{Pattern: "shop.v1.Orders/Get", MessageBytes: 1}, {Pattern: "/shop.*/*", MessageBytes: 2}}, q, nil)
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]int{"/shop.v1.Orders/Get": 1, "/shop.v1.Orders/Put": 2, "/other.v1.Orders/Get": 0} {
		got := 0
		if m := limits.match(method); m != nil {
			got = m.messageBytes
		}
		if got != want {
			t.Errorf("%s has the limit %d, want %d", method, got, want)
		}
	}
	if _, err := counts.limits([]MethodQuota{{Pattern: "nothing"}}, q, nil); err == nil {
		t.Error("a pattern without a slash is taken")
	}
}
