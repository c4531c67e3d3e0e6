package memory

// Small messages are counted ahead: an entry has the account count up to twice
// Account.ahead more than it holds. So most messages touch no counter that other calls
// use at the same time, which costs some 50 ns with two processors. Trim gives back the
// bytes that a stalled call has counted ahead.

// Account.ahead is maxAhead bytes, or 0 if messages have less than aheadFrom.
const (
	maxAhead  = 2 << 10
	aheadFrom = 32 << 20
)

// addSmall counts n bytes of small messages more, or fewer. After Settle it counts
// nothing.
func (e *Entry) addSmall(n int64) {
	held := e.held[Small].Add(n)
	switch {
	case held < 0:
	case n > 0:
		e.pay(held)
	default:
		e.refund(held, 2*e.account.ahead.Load())
	}
}

// pay has the account count the held bytes.
func (e *Entry) pay(held int64) {
	ahead := e.account.ahead.Load()
	for {
		paid := e.paid.Load()
		if paid < 0 || held <= paid {
			return
		}
		more := held + ahead - paid
		e.account.add(e.Owner(), Small, more) // before anybody can give it back
		if e.paid.CompareAndSwap(paid, paid+more) {
			return
		}
		e.account.release(e.Owner(), Small, more)
	}
}

// refund gives back the bytes that are counted ahead, if there are more than most,
// except a part of them.
func (e *Entry) refund(held, most int64) {
	for {
		paid, left := e.paid.Load(), held+most/2
		if paid < 0 || paid <= held+most {
			return
		}
		if !e.paid.CompareAndSwap(paid, left) {
			continue
		}
		e.account.release(e.Owner(), Small, paid-left)
		if held := e.held[Small].Load(); held > left { // more arrived, and saw what was paid before
			e.pay(held)
		}
		return
	}
}

// Trim gives back all bytes that are counted ahead.
func (e *Entry) Trim() {
	if held := e.held[Small].Load(); held >= 0 {
		e.refund(held, 0)
	}
}

// takeSmall reserves n bytes if they are counted already, or if there is room.
func (e *Entry) takeSmall(n int64) bool {
	held := e.held[Small].Add(n)
	lack := held - e.paid.Load()
	if held < 0 || lack <= 0 {
		return true
	}
	e.held[Small].Add(-n)
	for _, more := range [...]int64{lack + e.account.ahead.Load(), lack} {
		if e.account.take(e.Owner(), more) {
			e.keepSmall(more, n)
			return true
		}
	}
	return false
}

// keepSmall notes that the account has counted paid bytes for n held bytes. After
// Settle nothing would give them back.
func (e *Entry) keepSmall(paid, n int64) {
	if e.paid.Add(paid) < 0 {
		e.account.release(e.Owner(), Small, paid)
	}
	e.pay(e.held[Small].Add(n))
}
