// Package flood bounds what a client may do that costs it next to nothing and
// this side a little: frames that carry nothing, streams that are begun for
// nothing. How much of it is too much is each protocol's to say.
package flood

import "time"

// An Allowance is how much a client has done of what costs it next to nothing.
// The zero value is good: none. It has one user at a time.
type Allowance struct {
	spent int       // less than 0: earned
	at    time.Time // when some of it last came back
}

// Spend returns false when more than limit is spent, of which rate comes back
// each second.
func (a *Allowance) Spend(n int, now time.Time, limit, rate int) bool {
	back := int(min(now.Sub(a.at), time.Minute) * time.Duration(rate) / time.Second)
	if back < a.spent {
		a.spent -= back
		a.at = a.at.Add(time.Duration(back) * time.Second / time.Duration(rate))
	} else {
		a.spent, a.at = min(a.spent, 0), now
	}
	a.spent += n
	return a.spent < limit
}

// Earn makes good for n, and saves up to most of it.
func (a *Allowance) Earn(n, most int) {
	a.spent = max(a.spent-n, min(a.spent, -most))
}
