package jwt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/jwk"
)

// TestVerdictsAreKept: a good token is verified once, until it ends.
func TestVerdictsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		keys, j := issuer.Keys.(*keyFile), newJudge(t, issuer)
		text := token(map[string]any{"exp": time.Now().Unix() + 600})
		first := accepted(t, j, text)
		time.Sleep(660*time.Second - 1)
		if again := accepted(t, j, text); again != first || keys.finds.Load() != 1 {
			t.Errorf("the token was verified %d times", keys.finds.Load())
		}
		time.Sleep(time.Nanosecond)
		if got := refused(t, j, text); got.Kind != Expired || keys.finds.Load() != 2 {
			t.Errorf("after its end: %v, verified %d times", got, keys.finds.Load())
		}
		if good, _, _ := j.Kept(); good != 0 {
			t.Errorf("%d verdicts of good tokens are kept", good)
		}
	})
}

func TestEndlessTokensAreVerifiedEachHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		issuer.Endless = true
		keys, j := issuer.Keys.(*keyFile), newJudge(t, issuer)
		text := token(map[string]any{"exp": nil})
		accepted(t, j, text)
		time.Sleep(endlessFor - 1)
		accepted(t, j, text)
		if keys.finds.Load() != 1 {
			t.Errorf("verified %d times within the hour", keys.finds.Load())
		}
		time.Sleep(time.Nanosecond)
		accepted(t, j, text)
		if keys.finds.Load() != 2 {
			t.Errorf("verified %d times after the hour", keys.finds.Load())
		}
	})
}

// TestRemovedKeyEndsVerdicts: at once, also if a key with the same kid follows.
func TestRemovedKeyEndsVerdicts(t *testing.T) {
	issuer := newIssuer(t)
	keys, j := issuer.Keys.(*keyFile), newJudge(t, issuer)
	one, other := token(nil), sign("RS256", private["rsa"](), `{"alg":"RS256","kid":"rsa"}`, asJSON(claims(nil)))
	first := accepted(t, j, other)
	accepted(t, j, one)
	keys.change(t, "rsa", "ed")
	if got := refused(t, j, one); got.Kind != Invalid {
		t.Errorf("refused with %v", got)
	}
	if again := accepted(t, j, other); again != first {
		t.Error("a verdict with another key ended, too")
	}
	keys.change(t, "rsa", "p256")
	accepted(t, j, one)
}

// TestRefusalsAreKeptForSeconds: and an unknown key's not at all.
func TestRefusalsAreKeptForSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		keys, j := issuer.Keys.(*keyFile), newJudge(t, issuer)
		early := token(map[string]any{"nbf": time.Now().Unix() + 62, "exp": time.Now().Unix() + 600})
		for range 3 {
			if got := refused(t, j, early); got.Kind != Invalid {
				t.Errorf("before its time: %v", got)
			}
		}
		if keys.finds.Load() != 1 {
			t.Errorf("verified %d times", keys.finds.Load())
		}
		time.Sleep(refusedFor)
		accepted(t, j, early)

		keys.change(t, "rsa")
		fresh := token(map[string]any{"sub": "bob"})
		if got := refused(t, j, fresh); got.Kind != Invalid {
			t.Errorf("without its key: %v", got)
		}
		keys.change(t, "p256")
		accepted(t, j, fresh)
	})
}

func TestWrongSignaturesAreRefusedForSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		keys, j := issuer.Keys.(*keyFile), newJudge(t, issuer)
		forged := sign("ES256", strangeEC(), `{"alg":"ES256","kid":"p256"}`, asJSON(claims(nil)))
		for i, pause := range []time.Duration{0, refusedFor - 1, 1, refusedFor} {
			time.Sleep(pause)
			if got := refused(t, j, forged); got.Kind != Invalid {
				t.Errorf("refused with %v", got)
			}
			if want := int32(1 + i/2 + i/3); keys.finds.Load() != want { // 1, 1, 2, 3
				t.Errorf("look %d: verified %d times, want %d", i, keys.finds.Load(), want)
			}
		}
	})
}

// TestVerdictSinceTheLook: whoever begins to verify a token looks once more, since another
// caller may have reached the verdict meanwhile.
func TestVerdictSinceTheLook(t *testing.T) {
	issuer := newIssuer(t)
	keys, j := issuer.Keys.(*keyFile), newJudge(t, issuer)
	text := token(nil)
	first := accepted(t, j, text)
	if v := j.verify(t.Context(), hash(text), text); v.token != first || keys.finds.Load() != 1 {
		t.Errorf("verified %d times", keys.finds.Load())
	}
}

// lenient finds keys whatever the algorithm.
type lenient struct{ *keyFile }

func (l lenient) Find(ctx context.Context, id, _ string) ([]*jwk.Key, error) {
	return l.keyFile.Find(ctx, id, "RS256")
}

// TestKeyThatDoesNotFit: a key for RS256 verifies nothing else, whoever found it.
func TestKeyThatDoesNotFit(t *testing.T) {
	issuer := newIssuer(t)
	set := strings.Replace(string(setOf(t, "rsa")), `"kid"`, `"alg":"RS256","kid"`, 1)
	keys := issuer.Keys.(*keyFile)
	if err := os.WriteFile(keys.name, []byte(set), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keys.Reload(); err != nil {
		t.Fatal(err)
	}
	issuer.Keys = lenient{keys}
	j := newJudge(t, issuer)
	accepted(t, j, sign("RS256", private["rsa"](), `{"alg":"RS256","kid":"rsa"}`, asJSON(claims(nil))))
	if got := refused(t, j, sign("PS256", private["rsa"](), `{"alg":"PS256","kid":"rsa"}`, asJSON(claims(nil)))); got.Kind != Invalid {
		t.Errorf("refused with %v", got)
	}
}

// TestGarbagePushesNothingOut: a flood of tokens with wrong signatures leaves a good one alone,
// and is bounded itself. In a bubble, no refusal ends meanwhile, however slow the machine is.
func TestGarbagePushesNothingOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := newIssuer(t)
		keys, j := issuer.Keys.(*keyFile), newJudge(t, issuer)
		good := token(nil)
		accepted(t, j, good)
		at := len(good) - 20
		for i := range refusedEntries + 500 {
			if got := refused(t, j, good[:at]+fmt.Sprintf("%012d", i)+good[at+12:]); got.Kind != Invalid {
				t.Errorf("garbage: %v", got)
			}
		}
		before := keys.finds.Load()
		accepted(t, j, good)
		goods, refusals, bytes := j.Kept()
		if keys.finds.Load() != before || goods != 1 || refusals != refusedEntries || bytes > refusedBytes+entryBytes+1000 {
			t.Errorf("%d good verdicts, %d refusals, %d bytes are kept; the good token was verified again: %v", goods, refusals, bytes, keys.finds.Load() != before)
		}
	})
}

func TestVerdictsAreBounded(t *testing.T) {
	issuer := newIssuer(t)
	keys := issuer.Keys.(*keyFile)
	for name, o := range map[string]Options{"entries": {Entries: 4}, "bytes": {Bytes: 4*entryBytes + 4*200}} {
		o.Issuers = []Issuer{issuer}
		j := must(NewJudge(o))
		hot := token(map[string]any{"sub": "hot"})
		for i := range 20 {
			accepted(t, j, hot)
			accepted(t, j, token(map[string]any{"sub": fmt.Sprint(i)}))
			good, _, bytes := j.Kept()
			if good > 4 || o.Bytes > 0 && bytes > o.Bytes {
				t.Fatalf("%s: %d verdicts of %d bytes are kept", name, good, bytes)
			}
		}
		before := keys.finds.Load()
		accepted(t, j, hot)
		if keys.finds.Load() != before {
			t.Errorf("%s: the token that is used most was dropped", name)
		}
	}
	j := must(NewJudge(Options{Issuers: []Issuer{issuer}, Bytes: 100}))
	accepted(t, j, token(nil)) // larger than the whole cache
	if good, _, bytes := j.Kept(); good != 0 || bytes != 0 {
		t.Errorf("%d verdicts of %d bytes are kept", good, bytes)
	}
}

// A gate is a source of keys whose answers wait.
type gate struct {
	Keys
	asked chan struct{}
	open  chan struct{}
	panic bool
}

func (g *gate) Find(ctx context.Context, id, algorithm string) ([]*jwk.Key, error) {
	g.asked <- struct{}{}
	select {
	case <-g.open:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", jwk.ErrUnavailable, context.Cause(ctx))
	}
	if g.panic {
		panic("as planned")
	}
	return g.Keys.Find(ctx, id, algorithm)
}

func newGate(t *testing.T) (*gate, *Judge) {
	t.Helper()
	issuer := newIssuer(t)
	g := &gate{Keys: issuer.Keys, asked: make(chan struct{}, 100), open: make(chan struct{})}
	issuer.Keys = g
	return g, newJudge(t, issuer)
}

// TestSameTokenAtOnceIsVerifiedOnce: fifty callers, one verification, one Token.
func TestSameTokenAtOnceIsVerifiedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, j := newGate(t)
		text := token(nil)
		var callers sync.WaitGroup
		tokens := make([]*Token, 50)
		for i := range tokens {
			callers.Go(func() { tokens[i], _ = j.Verify(t.Context(), text, Thumbprint{}) })
		}
		synctest.Wait()
		close(g.open)
		callers.Wait()
		if len(g.asked) != 1 {
			t.Errorf("keys were looked for %d times", len(g.asked))
		}
		for _, got := range tokens {
			if got == nil || got != tokens[0] {
				t.Errorf("callers got %v and %v", got, tokens[0])
			}
		}
		if len(j.flights.all) != 0 {
			t.Error("a flight is left")
		}
	})
}

// TestCallerThatGivesUp: the others go on, each as long as its own context.
func TestCallerThatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, j := newGate(t)
		text, gone := token(nil), errors.New("the client has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		var callers sync.WaitGroup
		givesUp := func() {
			_, err := j.Verify(ctx, text, Thumbprint{})
			if about, is := errors.AsType[*Error](err); !is || about.Kind != Unavailable || !errors.Is(err, gone) {
				t.Errorf("the one that gives up gets %v", err)
			}
		}
		callers.Go(givesUp)
		<-g.asked // it verifies
		for range 10 {
			callers.Go(givesUp) // they wait for it
			callers.Go(func() {
				if _, err := j.Verify(t.Context(), text, Thumbprint{}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		close(g.open)
		callers.Wait()
		if len(g.asked) != 1 || len(j.flights.all) != 0 {
			t.Errorf("keys were looked for %d times again, %d flights are left", len(g.asked), len(j.flights.all))
		}
	})
}

// TestPanicOfAVerification ends those that wait, with an error.
func TestPanicOfAVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, j := newGate(t)
		g.panic = true
		text := token(nil)
		var callers sync.WaitGroup
		callers.Go(func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_, _ = j.Verify(t.Context(), text, Thumbprint{})
		})
		<-g.asked
		callers.Go(func() {
			if _, err := j.Verify(t.Context(), text, Thumbprint{}); !errors.Is(err, errBroken) {
				t.Errorf("the one that waits gets %v", err)
			}
		})
		synctest.Wait()
		close(g.open)
		callers.Wait()
		g.panic = false
		accepted(t, j, text)
	})
}

// TestVerificationsAreBounded: without a free slot, a new token waits as long as its context,
// and a known one doesn't.
func TestVerificationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := must(NewJudge(Options{Issuers: []Issuer{newIssuer(t)}, Verifications: 2}))
		known := token(map[string]any{"sub": "known"})
		accepted(t, j, known)
		j.slots <- struct{}{}
		j.slots <- struct{}{}
		text, why := token(nil), errors.New("the call's time is over")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		began := time.Now()
		_, err := j.Verify(ctx, text, Thumbprint{})
		if about, is := errors.AsType[*Error](err); !is || about.Kind != Unavailable || !errors.Is(err, why) || time.Since(began) != time.Second {
			t.Errorf("without a slot: %v after %v", err, time.Since(began))
		}
		accepted(t, j, known)
		<-j.slots
		accepted(t, j, text)
		<-j.slots
	})
}

// TestOutageIsNotTheClientsFault: nobody can judge, so the client may try again, and nothing is
// kept.
func TestOutageIsNotTheClientsFault(t *testing.T) {
	issuer := newIssuer(t)
	source := must(jwk.Open(jwk.Options{File: t.TempDir() + "/missing"}))
	defer source.Close()
	issuer.Keys = source
	j := newJudge(t, issuer)
	got := refused(t, j, token(nil))
	if _, refusals, _ := j.Kept(); got.Kind != Unavailable || !errors.Is(got, jwk.ErrUnavailable) || refusals != 0 {
		t.Errorf("%v, %d refusals are kept", got, refusals)
	}
}

func TestManyCallers(t *testing.T) {
	issuer := newIssuer(t)
	keys := issuer.Keys.(*keyFile)
	j := must(NewJudge(Options{Issuers: []Issuer{issuer}, Entries: 3}))
	var texts []string
	for i := range 6 {
		texts = append(texts, token(map[string]any{"sub": fmt.Sprint(i)}))
	}
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for n := range 100 {
				who := (i + n) % len(texts)
				if got, err := j.Verify(t.Context(), texts[who], Thumbprint{}); err != nil || got.Subject != fmt.Sprint(who) {
					t.Errorf("token of %d: %+v, %v", who, got, err)
				}
			}
		})
	}
	callers.Go(func() {
		for range 20 {
			keys.change(t, "p256", "rsa")
			keys.change(t, "p256", "ed")
		}
	})
	callers.Wait()
}
