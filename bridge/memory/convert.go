package memory

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// conversions bounds the memory that conversions of messages take while they run: half as
// much as the messages may. It is apart from the messages' room, because a conversion
// holds a message and would else wait for others that do. Who has this room waits for
// nobody, so it is soon free again.
type conversions struct{ shares *semaphore.Weighted }

// allShares is the whole room, of whatever size it is at the moment.
const allShares = 1 << 30

func newConversions() conversions { return conversions{semaphore.NewWeighted(allShares)} }

// Convert waits until a conversion that takes n bytes may run. done must be called behind
// it. fits reports whether it ever may.
func (a *Account) Convert(ctx context.Context, n int64) (done func(), fits bool, err error) {
	room := max(a.Messages()/2, 1)
	if n > room {
		return nil, false, nil
	}
	shares := max(int64(float64(n)/float64(room)*allShares), 1)
	if !a.conversions.shares.TryAcquire(shares) {
		patient, stop := context.WithTimeoutCause(ctx, Patience, a.NoRoom(n))
		defer stop()
		if a.conversions.shares.Acquire(patient, shares) != nil {
			return nil, true, context.Cause(patient)
		}
	}
	return func() { a.conversions.shares.Release(shares) }, true, nil
}

// Take counts n bytes of the message without waiting: they take the place of others that
// are freed next.
func (c *Claim) Take(of Class, n int) {
	c.entry.Add(of, n)
	c.bytes[of] += n
}
