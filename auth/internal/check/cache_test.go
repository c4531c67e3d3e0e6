package check

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// cached are options with a cache.
func cached(ttl time.Duration) Options {
	o := patient()
	o.Names, o.Cache = []string{"authorization"}, Cache{TTL: ttl}
	return o
}

func TestAnswersAreKeptForTheirTime(t *testing.T) {
	denied := &Refusal{Kind: Denied, Code: codes.PermissionDenied, Message: "no", Cause: errors.New("no")}
	for name, c := range map[string]struct {
		ttl  time.Duration
		v    verdict
		want time.Duration // how long it is kept
	}{
		"an answer":                {time.Minute, verdict{answer: Answer{Subject: "alice"}}, time.Minute},
		"a refusal":                {time.Minute, verdict{refusal: denied}, 5 * time.Second},
		"a refusal, less than 5 s": {time.Second, verdict{refusal: denied}, time.Second},
		"nobody answered":          {time.Minute, verdict{refusal: unanswered(errors.New("gone"))}, 0},
		"an unusable answer":       {time.Minute, verdict{refusal: unusable(errors.New("odd"))}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &fakeService{answer: func(context.Context, Request) verdict { return c.v }}
			checker := fakeChecker(t, cached(c.ttl), s)
			ask := func() Answer {
				t.Helper()
				answer, err := checker.Check(t.Context(), aCall())
				if (err == nil) != (c.v.refusal == nil) || err != nil && !sameRefusal(asRefusal(t, err), c.v.refusal) {
					t.Errorf("%s: got %v, want %v", name, err, c.v.refusal)
				}
				if answer.Subject != c.v.answer.Subject {
					t.Errorf("%s: got %+v, want %+v", name, answer, c.v.answer)
				}
				return answer
			}
			ask()
			want := int64(1)
			if c.want > 0 {
				time.Sleep(c.want - 1)
				if answer := ask(); c.v.refusal == nil && !answer.Cached {
					t.Errorf("%s: a cached answer doesn't say so", name)
				}
				if got := s.asked.Load(); got != want {
					t.Errorf("%s: asked %d times within %v", name, got, c.want)
				}
				time.Sleep(time.Nanosecond)
			}
			ask()
			if got := s.asked.Load(); got != want+1 {
				t.Errorf("%s: asked %d times after %v, want %d", name, got, c.want, want+1)
			}
		})
	}
}

func TestFailOpenIsNotKept(t *testing.T) {
	s := &fakeService{answer: func(context.Context, Request) verdict { return verdict{refusal: unanswered(errors.New("gone"))} }}
	o := cached(time.Minute)
	o.FailOpen = true
	c := fakeChecker(t, o, s)
	for range 2 {
		if a, err := c.Check(t.Context(), aCall()); err != nil || a.Open == nil || a.Cached {
			t.Errorf("got %+v, %v", a, err)
		}
	}
	if got := s.asked.Load(); got != 2 {
		t.Errorf("asked %d times, want 2", got)
	}
}

func TestCacheIsBoundedInEntries(t *testing.T) {
	s := &fakeService{answer: func(context.Context, Request) verdict { return verdict{} }}
	o := cached(time.Minute)
	o.Cache.Entries = 3
	c := fakeChecker(t, o, s)
	ask := func(method string) (wasCached bool) {
		r := aCall()
		r.Method = method
		a, err := c.Check(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return a.Cached
	}
	for _, method := range []string{"a", "b", "c", "a", "d"} { // b was used longest ago
		ask(method)
	}
	if got := c.Snapshot().Entries; got != 3 {
		t.Errorf("%d entries, want 3", got)
	}
	for _, method := range []string{"a", "c", "d"} {
		if !ask(method) {
			t.Errorf("%s isn't cached", method)
		}
	}
	if ask("b") {
		t.Error("b is cached")
	}
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	large := Answer{Request: Edits{{"x-a", strings.Repeat("a", maxEditBytes-1000), Set}}}
	s := &fakeService{answer: func(context.Context, Request) verdict { return verdict{answer: large} }}
	c := fakeChecker(t, cached(time.Minute), s)
	for i := range 2 * maxCacheBytes / maxEditBytes {
		r := aCall()
		r.Method = strconv.Itoa(i)
		if _, err := c.Check(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if got, most := c.Snapshot().Entries, maxCacheBytes/(maxEditBytes-1000); got > most || got < most/2 {
		t.Errorf("%d entries, want about %d", got, most)
	}
	if _, bytes := c.cache.known.Size(); bytes > maxCacheBytes {
		t.Errorf("%d bytes, over %d", bytes, maxCacheBytes)
	}
}

// TestMetadataOfTheCacheIsAllThatTheServiceGets: else its answer could depend on what isn't in
// the key.
func TestMetadataOfTheCacheIsAllThatTheServiceGets(t *testing.T) {
	if _, err := NewGRPC(GRPC{Target: "localhost:1"}, Options{Reserved: reservedNames, ReservedDown: reservedNames, Cache: Cache{TTL: time.Second}}); err == nil {
		t.Error("a cache without a list of metadata")
	}
	r := aCall()
	got := checkRequest(&r, []string{"x-a"}).GetAttributes().GetRequest().GetHttp().GetHeaders()
	for name := range got {
		if _, is := r.Metadata[name]; is && name != "x-a" {
			t.Errorf("%s crossed", name)
		}
	}
	if got["x-a"] != "1,2" {
		t.Errorf("x-a is %q", got["x-a"])
	}
}

// TestRefusalsCountTheirBytes: a header for the client may be 16 KiB, too.
func TestRefusalsCountTheirBytes(t *testing.T) {
	r := &Refusal{Kind: Denied, Code: codes.PermissionDenied, Message: "no", Cause: errors.New("no"), Header: metadata.MD{"x-a": {strings.Repeat("a", maxEditBytes)}}}
	c := newCache(Cache{TTL: time.Minute, Entries: DefaultEntries})
	now := time.Now()
	for i := range 2 * maxCacheBytes / maxEditBytes {
		c.put(key{byte(i), byte(i >> 8)}, verdict{refusal: r}, now)
		c.put(key{byte(i), byte(i >> 8)}, verdict{refusal: r}, now) // takes the place of the first
	}
	if got, bytes := c.known.Size(); bytes > maxCacheBytes || got > maxCacheBytes/maxEditBytes || got < maxCacheBytes/maxEditBytes/2 {
		t.Errorf("%d entries of %d bytes", got, bytes)
	}
}

// TestKnownAnswersAllocateLittle: nothing at all, but for the race detector, with which a pool
// forgets some of what it has.
func TestKnownAnswersAllocateLittle(t *testing.T) {
	c := fakeChecker(t, cached(MaxTTL), &fakeService{answer: func(context.Context, Request) verdict { return verdict{} }})
	r := aCall()
	ask := func() {
		if _, err := c.Check(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	if got := testing.AllocsPerRun(1000, ask); got > 2 {
		t.Errorf("%v allocations", got)
	}
}
