package check

import (
	"container/list"
	"sync"
	"time"
)

// maxCacheBytes bounds what a cache holds besides its entries' count: answers may be 16 KiB.
const maxCacheBytes = 4 << 20

// A verdict is what a question ended with. refusal is nil for a call that may go on.
type verdict struct {
	answer  Answer
	refusal *Refusal
}

// A cache has the last verdicts by key. The one that was used longest ago goes first.
type cache struct {
	ttl     time.Duration // of answers
	refused time.Duration // of refusals
	limit   int           // entries

	mu    sync.Mutex
	known map[key]*list.Element // of *entry
	used  list.List             // the last used one in front
	bytes int
}

type entry struct {
	key   key
	v     verdict
	until time.Time
	bytes int
}

// entryBytes is about what an entry takes besides its verdict's strings.
const entryBytes = 400

func newCache(o Cache) *cache {
	return &cache{ttl: o.TTL, refused: min(o.TTL, maxRefusedTTL), limit: o.Entries, known: make(map[key]*list.Element)}
}

// get returns the verdict for a key, if there is one that holds now.
func (c *cache) get(k key, now time.Time) (v verdict, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.known[k]
	if !ok {
		return verdict{}, false
	}
	e := el.Value.(*entry)
	if !now.Before(e.until) {
		c.remove(el)
		return verdict{}, false
	}
	c.used.MoveToFront(el)
	return e.v, true
}

// put keeps a verdict, unless it says that nobody judged the call, or is too large.
func (c *cache) put(k key, v verdict, now time.Time) {
	ttl, size := c.ttl, entryBytes+v.answer.bytes()
	switch {
	case v.answer.Open != nil, v.refusal != nil && v.refusal.Kind == Unavailable:
		return
	case v.refusal != nil:
		ttl, size = c.refused, size+v.refusal.bytes()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.known[k]; ok {
		c.remove(el)
	}
	if size > maxCacheBytes {
		return
	}
	c.known[k] = c.used.PushFront(&entry{k, v, now.Add(ttl), size})
	c.bytes += size
	for len(c.known) > c.limit || c.bytes > maxCacheBytes {
		c.remove(c.used.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	e := c.used.Remove(el).(*entry)
	delete(c.known, e.key)
	c.bytes -= e.bytes
}

func (c *cache) entries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known)
}
