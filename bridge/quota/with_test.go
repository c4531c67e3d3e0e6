package quota

import (
	"testing"
	"testing/synctest"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// changed returns quotas of other limits that go on counting where q is.
func (q *testQuotas) changed(limits scopeLimits) *testQuotas {
	return &testQuotas{q.With(limits.server, limits.address, false), q.method.With(limits.method)}
}

// TestCountsOutliveTheirLimits: calls that began with other limits count, until
// they end.
func TestCountsOutliveTheirLimits(t *testing.T) {
	for name, of := range map[string]func(calls int) (scopeLimits, report.Quota){
		"server": func(calls int) (scopeLimits, report.Quota) {
			return scopeLimits{server: report.Quota{Calls: calls}}, report.Quota{}
		},
		"address": func(calls int) (scopeLimits, report.Quota) {
			return scopeLimits{address: report.Quota{Calls: calls}}, report.Quota{}
		},
		"method": func(calls int) (scopeLimits, report.Quota) {
			return scopeLimits{method: report.Quota{Calls: calls}}, report.Quota{}
		},
		"listener": func(calls int) (scopeLimits, report.Quota) { return scopeLimits{}, report.Quota{Calls: calls} },
	} {
		three, l := of(3)
		q, _ := newTestQuotas(t, three)
		listener := NewListenerScope(l)
		start := func() *Call {
			t.Helper()
			c, err := q.start(listener, "192.0.2.1", limitedMethod)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return c
		}
		refused := func(when string) {
			t.Helper()
			if _, err := q.start(listener, "192.0.2.1", limitedMethod); err == nil {
				t.Errorf("%s: a call too many begins %s", name, when)
			}
		}
		change := func(calls int) {
			limits, l := of(calls)
			q, listener = q.changed(limits), listener.With(l)
		}
		first, second := start(), start()
		change(2)
		refused("when two run and the limit is lowered to two")
		first.End()
		third := start()
		refused("when one has ended and another has begun")
		change(0)
		unlimited := start()
		change(3)
		refused("when three run, and one of them began without a limit")
		for _, c := range []*Call{second, third, unlimited} {
			c.End()
		}
		for range 3 {
			defer start().End()
		}
		refused("when three run anew")
	}
}

// TestConnectionsOutliveTheirLimits, as calls do.
func TestConnectionsOutliveTheirLimits(t *testing.T) {
	q, _ := newTestQuotas(t, scopeLimits{address: report.Quota{Connections: 2}})
	l := anyListener()
	var before, unlimited, after Conn
	if err := before.Begin(q.Limiter, "192.0.2.1", l, false); err != nil {
		t.Fatal(err)
	}
	if err := unlimited.Begin(q.changed(scopeLimits{}).Limiter, "192.0.2.1", l, false); err != nil {
		t.Fatal(err)
	}
	one := q.changed(scopeLimits{address: report.Quota{Connections: 1}})
	if err := after.Begin(one.Limiter, "192.0.2.1", l, false); err == nil {
		t.Error("a second connection begins when the limit is lowered to one")
	}
	before.End()
	after = Conn{}
	if err := after.Begin(one.Limiter, "192.0.2.1", l, false); err == nil {
		t.Error("a second connection begins when the first began without a limit")
	}
	unlimited.End()
	after = Conn{}
	if err := after.Begin(one.Limiter, "192.0.2.1", l, false); err != nil {
		t.Errorf("after the last connection: %v", err)
	}
	after.End()
}

// TestBucketsOutliveTheirRates: a swap gives nobody a full bucket.
func TestBucketsOutliveTheirRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{CallsPerSecond: 4}})
		l := anyListener()
		for range 4 {
			if _, err := q.start(l, "192.0.2.1", limitedMethod); err != nil {
				t.Fatal(err)
			}
		}
		q = q.changed(scopeLimits{server: report.Quota{CallsPerSecond: 4}})
		if _, err := q.start(l, "192.0.2.1", limitedMethod); err == nil {
			t.Error("a fifth call begins within the second")
		}
	})
}

// TestDebtsOutliveTheirLimits: a call that began with a low limit doesn't stop those
// that begin with a higher one, for what is little to them.
func TestDebtsOutliveTheirLimits(t *testing.T) {
	q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{DecompressedPerSecond: 1 << 10}})
	l := anyListener()
	before, err := q.start(l, "192.0.2.1", limitedMethod)
	if err != nil {
		t.Fatal(err)
	}
	_ = before.Expanded(1<<20, 1<<20) // one message
	after, err := q.changed(scopeLimits{server: report.Quota{DecompressedPerSecond: 1 << 30}}).start(l, "192.0.2.1", limitedMethod)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := after.MayExpand(); err != nil {
			t.Errorf("with the limit raised: %v", err)
		}
		_ = before.Expanded(1<<20, 1<<20) // it has a debt, which is its own
	}
	if before.MayExpand() == nil {
		t.Error("the call that began with the low limit has no debt")
	}
	before.End()
	after.End()
}
