package cache

import (
	"testing"
	"time"
)

// TestManyEntries checks the list and the bytes of the cache while entries come, end and go.
func TestManyEntries(t *testing.T) {
	withdrawn := map[int]bool{}
	c := &Cache[int]{MaxEntries: 50, MaxBytes: 3000, Stale: func(v int) bool { return withdrawn[v] }}
	now := time.Unix(0, 0)
	for i := range 5000 {
		now = now.Add(time.Second)
		key := Key{byte(i * 7), byte(i * 7 >> 8)}
		c.Put(key, i, i%100, now.Add(time.Duration(i%60)*time.Second), now)
		if v, ok := c.Get(Key{byte(i * 7 / 2)}, now); ok && withdrawn[v] {
			t.Fatalf("%d: a withdrawn value counts", i)
		}
		if i%3 == 0 {
			c.Get(key, now)
		}
		withdrawn[i-i%11] = true
		entries, bytes, forward := 0, 0, map[*entry[int]]bool{}
		for e := c.oldest; e != nil; e = e.newer {
			entries, bytes, forward[e] = entries+1, bytes+e.bytes, true
			if c.entries[e.key] != e {
				t.Fatalf("%d: an entry of the list isn't in the map", i)
			}
		}
		for e := c.newest; e != nil; e = e.older {
			delete(forward, e)
		}
		if got, gotBytes := c.Size(); got != entries || gotBytes != bytes || len(forward) != 0 || entries > 50 || bytes > 3000 || c.hand != nil && c.entries[c.hand.key] != c.hand {
			t.Fatalf("%d: %d entries of %d bytes, the list has %d of %d, and %d in one direction only", i, got, gotBytes, entries, bytes, len(forward))
		}
	}
	for c.oldest != nil {
		c.remove(c.oldest)
	}
	if entries, bytes := c.Size(); entries != 0 || bytes != 0 || c.newest != nil {
		t.Errorf("an empty cache has %d entries of %d bytes", entries, bytes)
	}
}

// TestValuesEnd, and those that are withdrawn don't count.
func TestValuesEnd(t *testing.T) {
	withdrawn := false
	c := &Cache[string]{MaxEntries: 2, MaxBytes: 10, Stale: func(v string) bool { return v == "b" && withdrawn }}
	begin := time.Unix(100, 0)
	end := begin.Add(time.Second)
	want := func(what string, key Key, now time.Time, wanted string) {
		t.Helper()
		if got, ok := c.Get(key, now); got != wanted || ok != (wanted != "") {
			t.Errorf("%s: got %q, %v, want %q", what, got, ok, wanted)
		}
	}
	c.Put(Key{1}, "a", 5, end, begin)
	c.Put(Key{2}, "b", 5, end, begin)
	want("at the last moment", Key{1}, end.Add(-1), "a")
	want("at its end", Key{1}, end, "")
	want("before the key goes", Key{2}, begin, "b")
	withdrawn = true
	want("after the key has gone", Key{2}, begin, "")
	c.Put(Key{3}, "larger than all", 11, end, begin)
	want("too large", Key{3}, begin, "")
	c.Put(Key{4}, "c", 5, end, begin)
	c.Put(Key{4}, "larger than all", 11, end, begin)
	want("in the place of one that could be kept", Key{4}, begin, "")
	if entries, bytes := c.Size(); entries != 0 || bytes != 0 {
		t.Errorf("%d entries of %d bytes are left", entries, bytes)
	}
}
