// Package flood bounds actions of a client that cost it next to nothing and this side
// a little: frames that carry nothing, streams that are begun for nothing. Each
// protocol sets its own limits.
package flood

import "time"

// An Allowance counts such actions of a client. The zero value is ready to use. It
// has one user at a time.
type Allowance struct {
	spent int       // less than 0: earned
	at    time.Time // when some of it last came back
}

// Spend returns false when more than limit is spent. rate of it comes back each
// second.
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

// Earn gives back n, and saves up to most.
func (a *Allowance) Earn(n, most int) {
	a.spent = max(a.spent-n, min(a.spent, -most))
}
