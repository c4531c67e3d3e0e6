package jwt

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/jwk"
)

// A verdict is what was found about a token: a Token or an Error.
type verdict struct {
	token *Token
	err   *Error
	key   *jwk.Key  // with which the signature was verified, or nil
	ends  time.Time // zero for a verdict that isn't kept
}

// holds reports whether the verdict still counts.
func (v *verdict) holds(now time.Time) bool {
	return now.Before(v.ends) && (v.key == nil || !v.key.Removed())
}

// sum is the SHA-256 of a whole token.
type sum [32]byte

// entryBytes is what an entry costs beside what its token says.
const entryBytes = 768

// verdicts keep verdicts by the token's hash, bounded in entries and bytes. For room, they
// drop the oldest entry that wasn't used since the hand went by (the algorithm SIEVE). So a hit
// changes one flag, under a lock that readers share.
type verdicts struct {
	maxEntries, maxBytes int

	mu             sync.RWMutex
	entries        map[sum]*entry
	newest, oldest *entry
	hand           *entry
	bytes          int
}

type entry struct {
	key          sum
	verdict      *verdict
	bytes        int
	used         atomic.Bool
	newer, older *entry
}

func (c *verdicts) get(key sum, now time.Time) *verdict {
	c.mu.RLock()
	e := c.entries[key]
	c.mu.RUnlock()
	if e == nil {
		return nil
	}
	if !e.verdict.holds(now) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.entries[key] == e {
			c.remove(e)
		}
		return nil
	}
	if !e.used.Load() { // most hits write nothing
		e.used.Store(true)
	}
	return e.verdict
}

func (c *verdicts) put(key sum, v *verdict, now time.Time) {
	e := &entry{key: key, verdict: v, bytes: entryBytes}
	if v.token != nil {
		e.bytes += v.token.bytes
	}
	if e.bytes > c.maxBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.entries[key]; before != nil {
		c.remove(before)
	}
	for c.oldest != nil && !c.oldest.verdict.holds(now) {
		c.remove(c.oldest)
	}
	for len(c.entries) >= c.maxEntries || c.bytes+e.bytes > c.maxBytes {
		c.remove(c.victim())
	}
	if c.entries == nil {
		c.entries = map[sum]*entry{}
	}
	c.entries[key] = e
	c.bytes += e.bytes
	e.older = c.newest
	if c.newest != nil {
		c.newest.newer = e
	} else {
		c.oldest = e
	}
	c.newest = e
}

// victim returns the entry to drop. There is one.
func (c *verdicts) victim() *entry {
	e := c.hand
	for {
		if e == nil {
			e = c.oldest
		}
		if c.hand = e; !e.used.Swap(false) {
			return e
		}
		e = e.newer
	}
}

func (c *verdicts) remove(e *entry) {
	delete(c.entries, e.key)
	c.bytes -= e.bytes
	if c.hand == e {
		c.hand = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		c.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		c.oldest = e.newer
	}
}

func (c *verdicts) size() (entries, bytes int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries), c.bytes
}
