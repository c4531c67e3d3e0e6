package quota

import (
	"testing"
	"time"
)

// TestOverdraft: what is spent may be more than there is, and then nothing
// goes on until it is paid.
func TestOverdraft(t *testing.T) {
	const second = int64(time.Second)
	b, r := new(overdraft), perSecond(1000)
	if wait := b.debt(r, at(0)); wait != 0 {
		t.Errorf("a full bucket has a debt of %v", wait)
	}
	b.spend(r, 0, 1000)
	if wait := b.debt(r, at(0)); wait != 0 {
		t.Errorf("what was there has been spent, and the debt is %v", wait)
	}
	b.spend(r, 0, 5000)
	if got, want := b.debt(r, at(second)), 4*time.Second; got != want {
		t.Errorf("5000 were owed at 1000 a second; a second later it is %v, want %v", got, want)
	}
	if wait := b.debt(r, at(5*second)); wait != 0 {
		t.Errorf("after 5 s the debt is %v", wait)
	}
	b.spend(0, 0, 1<<40)
	if wait := b.debt(0, at(0)); wait != 0 {
		t.Errorf("without a rate there is a debt of %v", wait)
	}
}

// TestDebtsOutliveTheirRates: what is owed is an amount, whatever the rate of who owes
// it and of who asks.
func TestDebtsOutliveTheirRates(t *testing.T) {
	const second = int64(time.Second)
	slow, fast := perSecond(1000), perSecond(10_000)
	o := new(overdraft)
	o.spend(slow, 0, 20_000)
	for r, want := range map[perSecond]time.Duration{slow: 19 * time.Second, fast: time.Second, 40_000: 0} {
		if got := o.debt(r, at(0)); got != want {
			t.Errorf("20,000 were spent: at %d a second the debt is %v, want %v", r, got, want)
		}
	}
	o.spend(fast, 0, 10_000)
	if got, want := o.debt(fast, at(0)), 2*time.Second; got != want {
		t.Errorf("30,000 were spent: at %d a second the debt is %v, want %v", fast, got, want)
	}
	o.spend(slow, second, 1000) // by one that began with the old rate, when 10,000 are paid
	if got, want := o.debt(fast, at(second)), 1100*time.Millisecond; got != want {
		t.Errorf("21,000 are missing: at %d a second the debt is %v, want %v", fast, got, want)
	}
	o.spend(1<<31-1, second, 1<<32)
	if got := o.debt(1, at(second)); got <= 0 {
		t.Errorf("more is owed than fits a clock, and the debt is %v", got)
	}
	if o.rested(second) || !o.rested(10*second) {
		t.Error("it is forgotten before it is full, or never")
	}
}

// TestDebtsAreNotForgiven however large they are: a debt that no clock can express
// stays one.
func TestDebtsAreNotForgiven(t *testing.T) {
	o := new(overdraft)
	for i := range 8 {
		o.spend(1, 0, 1<<31-1)
		if got := o.debt(1, at(0)); got < time.Duration(1<<31-2)*time.Second {
			t.Errorf("%d messages of 2 GiB were spent at 1 byte a second: the debt is %v", i+1, got)
		}
	}
}
