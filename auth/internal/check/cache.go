package check

import (
	"time"

	bounded "github.com/culvert-grpc/culvert/auth/internal/cache"
)

// maxCacheBytes bounds what a cache holds besides its entries' count: answers may be 16 KiB.
const maxCacheBytes = 4 << 20

// A verdict is what a question ended with. refusal is nil for a call that may go on.
type verdict struct {
	answer  Answer
	refusal *Refusal
}

// A cache has verdicts by key, for the time that the options give answers and refusals.
type cache struct {
	ttl   time.Duration // of answers; refusals have maxRefusedTTL at most
	known bounded.Cache[verdict]
}

// entryBytes is about what an entry takes besides its verdict's strings.
const entryBytes = 400

func newCache(o Cache) *cache {
	return &cache{ttl: o.TTL, known: bounded.Cache[verdict]{MaxEntries: o.Entries, MaxBytes: maxCacheBytes}}
}

// put keeps a verdict, unless it says that nobody judged the call, or is too large.
func (c *cache) put(k key, v verdict, now time.Time) {
	ttl, size := c.ttl, entryBytes+v.answer.bytes()
	switch {
	case v.answer.Open != nil, v.refusal != nil && v.refusal.Kind == Unavailable:
		return
	case v.refusal != nil:
		ttl, size = min(c.ttl, maxRefusedTTL), size+v.refusal.bytes()
	}
	c.known.Put(k, v, size, now.Add(ttl), now)
}
