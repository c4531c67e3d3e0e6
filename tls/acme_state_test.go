package proxytls

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"
)

// TestACMENameStates: what people see of a name in each state, at one time.
func TestACMENameStates(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	certificate := func(renewIn, endsIn time.Duration) *kept {
		return &kept{leaf: &x509.Certificate{NotAfter: in(endsIn)}, renewAt: in(renewIn)}
	}
	fails := func(retryIn time.Duration) *failing {
		return &failing{since: in(-time.Hour), retryAt: in(retryIn), tries: 3, problem: "the CA refuses"}
	}
	for name, c := range map[string]struct {
		inUse    *kept
		failing  *failing
		onDemand bool
		want     NameState
	}{
		"obtaining": {want: NameState{State: NameObtaining}},
		"valid":     {inUse: certificate(1, 2), onDemand: true, want: NameState{State: NameValid, OnDemand: true, NotAfter: in(2), NextTry: in(1)}},
		"renewing":  {inUse: certificate(0, 2), want: NameState{State: NameRenewing, NotAfter: in(2)}},
		"failing without a certificate": {
			failing: fails(time.Minute),
			want:    NameState{State: NameFailing, NextTry: in(time.Minute), Since: in(-time.Hour), Failures: 3, Problem: "the CA refuses"},
		},
		"failing with a certificate, while it is tried again": {
			inUse: certificate(-2, 1), failing: fails(0),
			want: NameState{State: NameFailing, NotAfter: in(1), Since: in(-time.Hour), Failures: 3, Problem: "the CA refuses"},
		},
	} {
		m := newManaged("a.test", c.onDemand)
		m.inUse.Store(c.inUse)
		m.failing.Store(c.failing)
		c.want.Name = "a.test"
		if got := m.state(now); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

// TestACMENamesAreBounded: all domains are there, and of the names on demand those that fail
// or end first.
func TestACMENamesAreBounded(t *testing.T) {
	now := time.Now()
	a := &ACME{names: map[string]*managed{}}
	add := func(name string, onDemand bool, endsIn time.Duration) {
		m := newManaged(name, onDemand)
		m.inUse.Store(&kept{leaf: &x509.Certificate{NotAfter: now.Add(endsIn)}, renewAt: now.Add(endsIn)})
		a.names[name] = m
	}
	add("late.domain", false, 9*time.Hour)
	add("early.domain", false, time.Hour)
	add("late.demand", true, 8*time.Hour)
	add("early.demand", true, 2*time.Hour)
	add("failing.demand", true, 7*time.Hour)
	a.names["failing.demand"].failing.Store(&failing{since: now, tries: 1})
	a.demand.fail("failing.demand", "a renewal", now) // counts once
	a.demand.fail("refused.demand", "an order", now)
	a.demand.failed["forgotten.demand"] = &failing{retryAt: now.Add(-time.Second)}
	for _, c := range []struct {
		most, left int
		want       []string
	}{
		{0, 4, []string{"early.domain", "late.domain"}},
		{2, 2, []string{"refused.demand", "failing.demand", "early.domain", "late.domain"}},
		{3, 1, []string{"refused.demand", "failing.demand", "early.domain", "early.demand", "late.domain"}},
		{9, 0, []string{"refused.demand", "failing.demand", "early.domain", "early.demand", "late.demand", "late.domain"}},
	} {
		names, left := a.Names(c.most)
		var got []string
		for _, n := range names {
			got = append(got, n.Name)
		}
		if left != c.left || !slices.Equal(got, c.want) {
			t.Errorf("at most %d: got %v and %d left, want %v and %d", c.most, got, left, c.want, c.left)
		}
	}
}
