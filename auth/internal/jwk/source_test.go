package jwk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A place is a source in a bubble, whose server is at localhost.
type place struct {
	*Source
	server *answer
	states chan State
}

// inBubble opens a source of a URL. The server's first answer is a set with the
// key a, which is fresh for ten minutes.
func inBubble(t *testing.T, options Options, test func(t *testing.T, p place)) {
	t.Helper()
	first := setOf(t, ec(t, "a"))
	synctest.Test(t, func(t *testing.T) {
		w, p := newWeb(t), place{server: &answer{body: first, header: map[string]string{"Cache-Control": "max-age=600"}}, states: make(chan State, 10_000)}
		w.serve(t, "localhost", p.server.ServeHTTP)
		options.URL, options.Notify = "http://localhost/keys", func(st State) { p.states <- st }
		p.Source = w.open(t, options)
		test(t, p)
	})
}

// find looks for a key, and returns how long that took, and the error.
func (p place) find(t *testing.T, id string) (time.Duration, error) {
	t.Helper()
	began := time.Now()
	keys, err := p.Find(t.Context(), id, "ES256")
	if err == nil && ids(keys) != id {
		t.Errorf("found %q for %q", ids(keys), id)
	}
	return time.Since(began), err
}

// TestCallerWaitsForTheFirstFetch: which isn't the one that unknown keys may cause.
func TestCallerWaitsForTheFirstFetch(t *testing.T) {
	second := setOf(t, ec(t, "b"))
	inBubble(t, Options{}, func(t *testing.T, p place) {
		if _, err := p.find(t, "a"); err != nil {
			t.Error(err)
		}
		if st := p.State(); st.Keys != 1 || st.Err != nil || st.Fetched.IsZero() || st.Next.IsZero() {
			t.Errorf("the state is %+v", st)
		}
		p.server.body200(second)
		if _, err := p.find(t, "b"); err != nil || p.server.fetches.Load() != 2 {
			t.Errorf("a new key: %v, %d fetches", err, p.server.fetches.Load())
		}
	})
}

// TestUnknownKeys: a thousand keys that nobody has cause one fetch a minute, and a new key is
// found by the next one.
func TestUnknownKeys(t *testing.T) {
	second := setOf(t, ec(t, "a"), ec(t, "new"))
	inBubble(t, Options{}, func(t *testing.T, p place) {
		<-p.states
		var callers sync.WaitGroup
		for i := range 1000 {
			callers.Go(func() {
				if took, err := p.find(t, fmt.Sprint(i)); !errors.Is(err, ErrUnknown) || took > time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
		}
		callers.Wait()
		if got := p.server.fetches.Load(); got != 2 {
			t.Errorf("%d fetches, want the first one and one more", got)
		}
		p.server.body200(second)
		time.Sleep(askAgain - time.Millisecond)
		if _, err := p.find(t, "new"); !errors.Is(err, ErrUnknown) || p.server.fetches.Load() != 2 {
			t.Errorf("within the minute: %v, %d fetches", err, p.server.fetches.Load())
		}
		time.Sleep(time.Millisecond)
		if _, err := p.find(t, "new"); err != nil || p.server.fetches.Load() != 3 {
			t.Errorf("after the minute: %v, %d fetches", err, p.server.fetches.Load())
		}
	})
}

// TestSetThatCameSince: a caller whose set is no longer the one in use looks into the newer one,
// and causes no fetch.
func TestSetThatCameSince(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, p place) {
		<-p.states
		if round := p.demand(time.Now(), nil); round != over {
			t.Errorf("the round is %v", round)
		}
		if err := p.await(t.Context(), over); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if got := p.server.fetches.Load(); got != 1 {
			t.Errorf("%d fetches, want one", got)
		}
	})
}

func TestRotation(t *testing.T) {
	second := setOf(t, ec(t, "b"))
	inBubble(t, Options{}, func(t *testing.T, p place) {
		keys, err := p.Find(t.Context(), "a", "ES256")
		if err != nil {
			t.Fatal(err)
		}
		p.server.body200(second)
		began, first := time.Now(), <-p.states
		st := <-p.states // refreshed by itself
		if took := time.Since(began); took >= 10*time.Minute || took < 8*time.Minute || !first.Next.Equal(began.Add(took)) {
			t.Errorf("refreshed after %v, announced for %v, want shortly before it is stale after 10 min", took, first.Next.Sub(began))
		}
		if !keys[0].Removed() || st.Keys != 1 {
			t.Errorf("the old key is removed: %v, the state is %+v", keys[0].Removed(), st)
		}
		if _, err := p.find(t, "b"); err != nil {
			t.Error(err)
		}
	})
}

func TestAgesAreBounded(t *testing.T) {
	for control, want := range map[string]time.Duration{
		"":                 15 * time.Minute,
		"no-store":         5 * time.Minute,
		"max-age=0":        5 * time.Minute,
		"max-age=60":       5 * time.Minute,
		"max-age=3600":     time.Hour,
		"max-age=99999999": 24 * time.Hour,
	} {
		inBubble(t, Options{}, func(t *testing.T, p place) {
			<-p.states
			p.server.set(func(a *answer) { a.header = map[string]string{"Cache-Control": control} })
			_, _ = p.find(t, "x") // a fetch with the header
			st := <-p.states
			if got := time.Until(st.Next); got > want*9/10 || got < want*8/10 {
				t.Errorf("with %q the next fetch is in %v, want a little before %v", control, got, want)
			}
		})
	}
}

// TestOutage: the last good keys go on for hours, retries become rare, and an unknown key isn't
// called unknown.
func TestOutage(t *testing.T) {
	second := setOf(t, ec(t, "b"))
	inBubble(t, Options{}, func(t *testing.T, p place) {
		<-p.states
		p.server.set(func(a *answer) { a.status = http.StatusServiceUnavailable })
		time.Sleep(12 * time.Hour)
		if took, err := p.find(t, "a"); err != nil || took != 0 {
			t.Errorf("the last good key: %v after %v", err, took)
		}
		if _, err := p.find(t, "b"); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "HTTP status 503") {
			t.Errorf("an unknown key: %v", err)
		}
		if got := p.server.fetches.Load(); got < 12*60 || got > 3*12*60 {
			t.Errorf("%d fetches in twelve hours, want one or two a minute", got)
		}
		p.server.body200(second)
		time.Sleep(time.Minute)
		if took, err := p.find(t, "b"); err != nil || took != 0 {
			t.Errorf("a minute after the outage: %v after %v", err, took)
		}
		if st := p.State(); st.Failures != 0 || st.Err != nil {
			t.Errorf("the state is %+v", st)
		}
	})
}

// TestWithdrawnKeys: a set without keys withdraws all of them, and is soon asked for again.
func TestWithdrawnKeys(t *testing.T) {
	empty, private := setOf(t), setOf(t, member(t, p256Private(), "a", nil))
	for _, withdrawn := range [][]byte{empty, private} {
		inBubble(t, Options{}, func(t *testing.T, p place) {
			<-p.states
			keys, err := p.Find(t.Context(), "a", "ES256")
			if err != nil {
				t.Fatal(err)
			}
			p.server.body200(withdrawn)
			_, _ = p.find(t, "x")
			st := <-p.states
			if !keys[0].Removed() || st.Keys != 0 || !errors.Is(st.Err, errNone) || time.Until(st.Next) > time.Minute {
				t.Errorf("removed: %v, the state is %+v", keys[0].Removed(), st)
			}
			if _, err := p.find(t, "a"); err == nil || errors.Is(err, ErrUnavailable) {
				t.Errorf("a withdrawn key: %v", err)
			}
		})
	}
}

// TestChangesAtEachFetch: each set counts, and no old one stays.
func TestChangesAtEachFetch(t *testing.T) {
	sets := make([][]byte, 20)
	for i := range sets {
		sets[i] = setOf(t, ec(t, fmt.Sprint(i)))
	}
	inBubble(t, Options{}, func(t *testing.T, p place) {
		<-p.states
		var last *Key
		for i, set := range sets {
			p.server.body200(set)
			<-p.states
			keys, err := p.Find(t.Context(), fmt.Sprint(i), "ES256")
			if err != nil || p.State().Keys != 1 {
				t.Fatalf("set %d: %v, %d keys", i, err, p.State().Keys)
			}
			if last != nil && !last.Removed() {
				t.Errorf("set %d: the last one's key isn't removed", i)
			}
			last = keys[0]
		}
	})
}

// TestWaitsAreBounded: by the option, and by the caller's context.
func TestWaitsAreBounded(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	inBubble(t, Options{Wait: 2 * time.Second}, func(t *testing.T, p place) {
		<-p.states
		p.server.set(func(a *answer) { a.handler = hang })
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				if took, err := p.find(t, "x"); !errors.Is(err, ErrUnavailable) || took != 2*time.Second {
					t.Errorf("%v after %v", err, took)
				}
			})
			callers.Go(func() {
				began, why := time.Now(), errors.New("the client has gone")
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
				defer cancel()
				if _, err := p.Find(ctx, "x", "ES256"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, why) || time.Since(began) != time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		}
		callers.Wait()
		if took, err := p.find(t, "a"); err != nil || took != 0 {
			t.Errorf("a known key meanwhile: %v after %v", err, took)
		}
		if got := p.server.fetches.Load(); got != 2 {
			t.Errorf("%d fetches, want 2", got)
		}
	})
}

func TestCloseEndsAFetchAndItsWaiters(t *testing.T) {
	inBubble(t, Options{Wait: time.Hour}, func(t *testing.T, p place) {
		<-p.states
		p.server.set(func(a *answer) { a.handler = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } })
		var waiter sync.WaitGroup
		waiter.Go(func() {
			if took, err := p.find(t, "x"); err == nil || took != 0 {
				t.Errorf("the waiter ends with %v after %v", err, took)
			}
		})
		synctest.Wait() // until it waits
		p.Close()
		p.Close()
		waiter.Wait()
		if took, err := p.find(t, "a"); err != nil || took != 0 {
			t.Errorf("a known key after Close: %v after %v", err, took)
		}
		if took, err := p.find(t, "x"); err == nil || took != 0 {
			t.Errorf("an unknown key after Close: %v after %v", err, took)
		}
	})
}

func TestDiscovery(t *testing.T) {
	first, second := setOf(t, ec(t, "a")), setOf(t, ec(t, "b"))
	synctest.Test(t, func(t *testing.T) {
		w, metadata := newWeb(t), &answer{}
		keysAt := func(uri string) []byte {
			return []byte(`{"issuer":"https://issuer.example/tenant","jwks_uri":"` + uri + `"}`)
		}
		metadata.body200(keysAt("https://issuer.example/keys"))
		w.serve(t, "issuer.example", func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/tenant/.well-known/openid-configuration":
				metadata.ServeHTTP(w, r)
			case "/keys":
				_, _ = w.Write(first)
			}
		})
		w.serve(t, "keys.example", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(second) })
		access := Access{CAFile: w.caFile}
		s := w.open(t, Options{Issuer: "https://issuer.example/tenant", Access: access, KeysAccess: access})
		if keys, err := s.Find(t.Context(), "a", "ES256"); err != nil || ids(keys) != "a" {
			t.Fatalf("found %s, %v", ids(keys), err)
		}
		lies := [][]byte{
			[]byte(`{"issuer":"https://attacker.example","jwks_uri":"https://keys.example/"}`),
			keysAt("http://keys.example/"),
			keysAt("https://issuer.example:444/keys"), // nothing listens
			[]byte("<html>"),
		}
		for _, lie := range lies {
			metadata.body200(lie)
			time.Sleep(askAgain)
			if _, err := s.Find(t.Context(), "b", "ES256"); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v", lie, err)
			}
			if keys, err := s.Find(t.Context(), "a", "ES256"); err != nil || ids(keys) != "a" {
				t.Errorf("%s: the last good key is %s, %v", lie, ids(keys), err)
			}
		}
		metadata.body200(keysAt("https://keys.example/")) // the issuer moves its keys
		time.Sleep(askAgain)
		if keys, err := s.Find(t.Context(), "b", "ES256"); err != nil || ids(keys) != "b" {
			t.Errorf("on another host: %s, %v", ids(keys), err)
		}
	})
}

func TestFile(t *testing.T) {
	name := write(t, "keys.json", setOf(t, ec(t, "a")))
	rewrite := func(data []byte) {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var states []State
	s, err := Open(Options{File: name, Notify: func(st State) { states = append(states, st) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	keys, err := s.Find(t.Context(), "a", "ES256")
	if err != nil || ids(keys) != "a" {
		t.Fatalf("found %s, %v", ids(keys), err)
	}
	if _, err := s.Find(t.Context(), "b", "ES256"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown key: %v", err)
	}
	rewrite([]byte("half"))
	if err := s.Reload(); err == nil || keys[0].Removed() || s.State().Keys != 1 || s.State().Failures != 1 {
		t.Errorf("with a broken file: %v, %+v", err, s.State())
	}
	rewrite(setOf(t, ec(t, "b")))
	if err := s.Reload(); err != nil || !keys[0].Removed() || s.State().Err != nil {
		t.Errorf("with a new file: %v, %+v", err, s.State())
	}
	if keys, err := s.Find(t.Context(), "b", "ES256"); err != nil || ids(keys) != "b" {
		t.Errorf("found %s, %v", ids(keys), err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || s.State().Keys != 1 {
		t.Errorf("without the file: %v, %+v", err, s.State())
	}
	if len(states) != 4 {
		t.Errorf("%d states were told, want 4", len(states))
	}
}

func TestFileIsMissingAtStart(t *testing.T) {
	s, err := Open(Options{File: t.TempDir() + "/keys.json"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Find(t.Context(), "a", "ES256"); !errors.Is(err, ErrUnavailable) || s.State().Err == nil {
		t.Errorf("found %v, the state is %+v", err, s.State())
	}
}

func TestAwaitWaitsForTheFirstFetch(t *testing.T) {
	goOn := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-goOn
		_, _ = w.Write(setOf(t, ec(t, "a"))) // the source says if it fails
	}))
	defer server.Close()
	s, err := Open(Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	s.Await(over)
	if s.State().Keys != 0 {
		t.Error("the keys are there before the server sends them")
	}
	close(goOn)
	s.Await(t.Context())
	if now := s.State(); now.Keys != 1 || now.Err != nil {
		t.Errorf("after the fetch: %+v", now)
	}
	s.Await(t.Context()) // nothing is due
}

func TestOfflineFetchesNothing(t *testing.T) {
	asked := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	defer server.Close()
	s, err := Open(Options{URL: server.URL, Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(t.Context(), "a", "ES256"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("found %v", err)
	}
	s.Close()
	if len(asked) > 0 {
		t.Error("the server was asked")
	}
	if _, err := Open(Options{URL: "http://a.example", Offline: true}); err == nil {
		t.Error("the options aren't checked")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{}, "name one of them"},
		{Options{URL: "https://a.example", File: "keys.json"}, "name one of them"},
		{Options{URL: "http://a.example"}, "must be https"},
		{Options{Issuer: "http://a.example"}, "must be https"},
		{Options{URL: "https://u:secret@a.example"}, "token file"},
		{Options{URL: "https://a.example", MinAge: 48 * time.Hour}, "over the most"},
	} {
		if s, err := Open(c.options); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v, %v, want an error with %q", c.options, s, err, c.want)
		}
	}
}
