package auth

import (
	"crypto"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// keyServer serves one issuer's metadata and keys over https, until the test's end.
func keyServer(t testing.TB, h http.Handler) (Issuer, *httptest.Server) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	s.Config.ErrorLog = nil
	ca := writeFile(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	return Issuer{Name: "served", Issuer: s.URL, KeysURL: s.URL + "/keys", Access: Access{CAFile: ca}, Audiences: []string{audience}}, s
}

// hangingServer answers nothing, and tells of each request and of its end.
func hangingServer(t testing.TB) (Issuer, chan struct{}) {
	t.Helper()
	asked := make(chan struct{}, 16)
	issuer, _ := keyServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		asked <- struct{}{} // for two waiters
		<-r.Context().Done()
	}))
	return issuer, asked
}

// TestHostileKeyServers: tokens of their issuer are unavailable, and others go on at once.
func TestHostileKeyServers(t *testing.T) {
	good := keySet(map[string]crypto.Signer{"staff": staffKey()})
	var elsewhere atomic.Int32
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = w.Write(good)
	}))
	defer other.Close()
	for name, h := range map[string]http.HandlerFunc{
		"a redirect to another host": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/keys", http.StatusFound) },
		"a redirect in circles":      func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) },
		"too much": func(w http.ResponseWriter, _ *http.Request) {
			chunk := []byte(strings.Repeat(" ", 64<<10))
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"a page of HTML":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hush</html>")) },
		"an error":           func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "hush", http.StatusInternalServerError) },
		"half of it":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good[:len(good)/2]) },
		"keys with the same": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[],"keys":[]}`)) },
	} {
		served, _ := keyServer(t, h)
		a := newAuth(t, Config{Issuers: []Issuer{served, staff(t)}})
		f := faultOfCall(t, a, aCall{own: "Bearer " + staffToken(claims{"iss": served.Issuer})})
		if f.Reason != report.ReasonAuthUnavailable || strings.Contains(f.Text, "127.0.0.1") || strings.Contains(f.Error(), "hush") {
			t.Errorf("%s: got %v: %v", name, f.Reason, f)
		}
		wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, "alice")
		parts.Poll(t, func() string {
			if s := a.State().Issuers[0]; s.Problem == "" || s.Failures == 0 || s.Keys != 0 || strings.Contains(s.Problem, "hush") {
				return fmt.Sprintf("%s: the state is %+v", name, s)
			}
			return ""
		})
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("a redirect to another host was followed %d times", n)
	}
}

// TestFetchesThatTokensCause: those with wrong signatures none, and those of unknown keys one in a
// minute, whatever number of keys they name. A reload gives no further one.
func TestFetchesThatTokensCause(t *testing.T) {
	var fetches atomic.Int32
	good := keySet(map[string]crypto.Signer{"staff": staffKey()})
	served, _ := keyServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		_, _ = w.Write(good)
	}))
	cfg := Config{Issuers: []Issuer{served}}
	a := newAuth(t, cfg)
	wantJudged(t, a, aCall{own: "Bearer " + staffToken(claims{"iss": served.Issuer})}, "alice")
	strange := func(kid string, n int) aCall {
		return aCall{own: "Bearer " + sign(strangeKey(), `{"alg":"ES256","kid":"`+kid+`"}`, claims{"n": n}.over(usualClaims(served.Issuer, "alice")))}
	}
	for n := range 30 {
		wantJudged(t, a, strange("staff", n), unauthenticated)
	}
	if got := fetches.Load(); got != 1 {
		t.Errorf("%d fetches with wrong signatures, want the first one alone", got)
	}
	began := time.Now()
	for n := range 30 {
		wantJudged(t, a, strange(fmt.Sprint(n), n), unauthenticated)
	}
	b := newAfter(t, cfg, a)
	for n := range 10 {
		wantJudged(t, b, strange(fmt.Sprint("later", n), n), unauthenticated)
	}
	if got := fetches.Load(); got != 2 && time.Since(began) < time.Minute {
		t.Errorf("%d fetches with unknown keys, want the first one and one more", got)
	}
}

// TestHangingKeyServer: while calls of its issuer wait, others go on, and the wait has a bound.
func TestHangingKeyServer(t *testing.T) {
	t.Parallel() // it waits most of the time
	served, asked := hangingServer(t)
	a := newAuth(t, Config{Issuers: []Issuer{served, staff(t)}})
	waiting := make(chan string, 1)
	go func() {
		got, _ := judged(t, a, aCall{own: "Bearer " + staffToken(claims{"iss": served.Issuer})})
		waiting <- got
	}()
	<-asked
	for range 100 {
		wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, "alice")
	}
	if got := <-waiting; got != unavailable { // after five seconds
		t.Errorf("got %s", got)
	}
}

// TestOutage: the issuer's server is gone. Its tokens stay good, also over a reload; with a key
// that it hasn't published yet nobody can judge a token.
func TestOutage(t *testing.T) {
	good := keySet(map[string]crypto.Signer{"staff": staffKey()})
	served, s := keyServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }))
	cfg := Config{Issuers: []Issuer{served}}
	a := newAuth(t, cfg)
	token := func(c claims) aCall { return aCall{own: "Bearer " + staffToken(c.over(claims{"iss": served.Issuer}))} }
	wantJudged(t, a, token(nil), "alice")
	s.Close()
	cfg.Rules = []Rule{{Name: "no-eve", Deny: true, Identities: []string{"eve"}}}
	b := newAfter(t, cfg, a)
	a.Retire()
	wantJudged(t, b, token(claims{"sub": "carol"}), "carol")
	wantJudged(t, b, token(claims{"sub": "eve"}), denied)
	unknown := aCall{own: "Bearer " + sign(strangeKey(), `{"alg":"ES256","kid":"next"}`, usualClaims(served.Issuer, "alice"))}
	wantJudged(t, b, unknown, unavailable)
	wantJudged(t, b, token(nil), "alice")
	parts.Poll(t, func() string {
		if st := b.State().Issuers[0]; st.Keys != 1 || st.Failures == 0 || st.Problem == "" || st.Fetched.IsZero() {
			return fmt.Sprintf("the state is %+v", st)
		}
		return ""
	})
}
