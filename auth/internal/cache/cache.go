// Package cache keeps what was found about credentials, by the SHA-256 of whatever decides it.
package cache

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// A Key is the SHA-256 of a credential, or of all that a verdict depends on.
type Key [sha256.Size]byte

// A Cache keeps values until they end, bounded in entries and bytes. For room, it drops the
// oldest entry that wasn't used since the hand went by (the algorithm SIEVE). So a hit changes
// one flag, under a lock that readers share. Its methods may be called concurrently.
type Cache[V any] struct {
	MaxEntries, MaxBytes int
	Stale                func(V) bool // reports that a value doesn't count any more; nil: its end alone decides

	mu             sync.RWMutex
	entries        map[Key]*entry[V]
	newest, oldest *entry[V]
	hand           *entry[V]
	bytes          int
}

type entry[V any] struct {
	key          Key
	value        V
	ends         time.Time
	bytes        int
	used         atomic.Bool
	newer, older *entry[V]
}

// Get returns the value for a key, if there is one that counts now.
func (c *Cache[V]) Get(key Key, now time.Time) (value V, ok bool) {
	c.mu.RLock()
	e := c.entries[key]
	c.mu.RUnlock()
	if e == nil {
		return value, false
	}
	if !c.holds(e, now) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.entries[key] == e {
			c.remove(e)
		}
		return value, false
	}
	if !e.used.Load() { // most hits write nothing
		e.used.Store(true)
	}
	return e.value, true
}

func (c *Cache[V]) holds(e *entry[V], now time.Time) bool {
	return now.Before(e.ends) && (c.Stale == nil || !c.Stale(e.value))
}

// Put keeps a value of so many bytes, in place of the key's last one. A value that is larger
// than the whole cache isn't kept.
func (c *Cache[V]) Put(key Key, value V, bytes int, ends, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.entries[key]; before != nil {
		c.remove(before)
	}
	if bytes > c.MaxBytes {
		return
	}
	for c.oldest != nil && !c.holds(c.oldest, now) {
		c.remove(c.oldest)
	}
	for len(c.entries) > 0 && (len(c.entries) >= c.MaxEntries || c.bytes+bytes > c.MaxBytes) {
		c.remove(c.victim())
	}
	if c.entries == nil {
		c.entries = map[Key]*entry[V]{}
	}
	e := &entry[V]{key: key, value: value, ends: ends, bytes: bytes, older: c.newest}
	c.entries[key] = e
	c.bytes += bytes
	if c.newest != nil {
		c.newest.newer = e
	} else {
		c.oldest = e
	}
	c.newest = e
}

// victim returns the entry to drop. There is one.
func (c *Cache[V]) victim() *entry[V] {
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

func (c *Cache[V]) remove(e *entry[V]) {
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

// Size returns how many values are kept, and their bytes.
func (c *Cache[V]) Size() (entries, bytes int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries), c.bytes
}
