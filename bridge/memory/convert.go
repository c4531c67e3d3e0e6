package memory

import (
	"context"

	"golang.org/x/sync/semaphore"
)

// conversions bounds the memory that conversions of messages take while they run: half as
// much as messages may take. This room is apart from that of the messages. A conversion
// already holds a message, so in the same room conversions could wait for each other for
// ever. A conversion that has room here waits for nobody, and is soon done.
type conversions struct{ shares *semaphore.Weighted }

// allShares is the whole room, of whatever size it is at the moment.
const allShares = 1 << 30

func newConversions() conversions { return conversions{semaphore.NewWeighted(allShares)} }

// Convert waits until a conversion that takes n bytes may run. The caller must call done
// after it. fits reports whether so much fits at all.
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
