package jwk

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestHostileServers: whatever a server of keys does, the last good keys go on, the source says
// why, and the time and the bytes are bounded.
func TestHostileServers(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[`)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, " "); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush() // the next write has the error
			time.Sleep(time.Second)                   // in a bubble: no real time
		}
	}
	gigabyte := func(w http.ResponseWriter, _ *http.Request) {
		block := bytes.Repeat([]byte(" "), 1<<20)
		for range 1 << 10 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	bomb := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(bytes.Repeat([]byte(" "), 64<<20)) // the reader may have gone
		_ = z.Close()
	}
	many := make([]map[string]any, 10_000)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string // a part of the error
	}{
		"hangs":               {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no complete answer in time"},
		"drips":               {slow, "no complete answer in time"},
		"a gigabyte":          {gigabyte, "over 256 KiB"},
		"a gzip bomb":         {bomb, "isn't a JSON object"},
		"a huge header":       {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header"},
		"another host":        {redirect("https://attacker.example/keys"), "redirected to https://attacker.example: configure"},
		"another port":        {redirect("https://keys.example:8443/keys"), "redirected to https://keys.example:8443"},
		"plain http":          {redirect("http://keys.example/keys"), "redirected to http://keys.example"},
		"a file":              {redirect("file:///etc/passwd"), "redirected to file://"},
		"itself":              {redirect("/keys"), "redirected more than 3 times"},
		"an unwanted type":    {page("text/html", "<html>Log in</html>"), `content type is "text/html"`},
		"nothing":             {page("application/json", ""), "isn't a JSON object"},
		"broken JSON":         {page("application/json", `{"keys":[`), "not JSON"},
		"no keys":             {page("application/json", `{"error":"secret"}`), `no list "keys"`},
		"half an answer":      {half, "unexpected EOF"},
		"10,000 keys":         {page("application/json", string(setOf(t, many...))), "10000 keys"},
		"an internal error":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "HTTP status 500"},
		"not modified":        {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "HTTP status 304"},
		"a part":              {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) }, "HTTP status 206"},
		"no HTTP":             {garbage, "malformed HTTP response"},
		"a closed connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			good := setOf(t, ec(t, "a"))
			synctest.Test(t, func(t *testing.T) {
				w, server := newWeb(t), &answer{body: good}
				w.serve(t, "keys.example", server.ServeHTTP)
				w.serve(t, "attacker.example", func(http.ResponseWriter, *http.Request) { t.Error("the attacker was asked") })
				states := make(chan State, 8)
				s := w.open(t, Options{URL: "https://keys.example/keys?secret", Access: Access{CAFile: w.caFile}, Notify: func(st State) { states <- st }})
				if st := <-states; st.Err != nil || st.Keys != 1 {
					t.Fatalf("the good set: %+v", st)
				}
				server.set(func(a *answer) { a.handler = c.answer })
				before, began := w.read.Load(), time.Now()
				if _, err := s.Find(t.Context(), "b", "ES256"); err == nil { // causes a fetch
					t.Error("a key that no set has was found")
				}
				st := <-states
				if st.Err == nil || !strings.Contains(st.Err.Error(), c.want) || !strings.HasPrefix(st.Err.Error(), "keys.example: ") || strings.Contains(st.Err.Error(), "secret") {
					t.Errorf("the state's error is %v, want %q of keys.example", st.Err, c.want)
				}
				if took := time.Since(began); took > fetchTime {
					t.Errorf("the fetch took %v", took)
				}
				if got := w.read.Load() - before; got > 1<<20 {
					t.Errorf("%d KiB were read", got>>10)
				}
				if keys, err := s.Find(t.Context(), "a", "ES256"); err != nil || ids(keys) != "a" {
					t.Errorf("after it, the last good key is %v, %v", ids(keys), err)
				}
			})
		})
	}
}

func page(kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, body) // the reader may have gone
	}
}

func half(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"keys":[`)
}

func garbage(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n")
		_ = c.Close()
	}
}

func TestRedirectWithinTheHostIsFollowed(t *testing.T) {
	w := newWeb(t)
	set := setOf(t, ec(t, "a"))
	w.serve(t, "keys.example", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			http.Redirect(w, r, "/keys/", http.StatusMovedPermanently)
			return
		}
		_, _ = w.Write(set)
	})
	s := w.open(t, Options{URL: "https://keys.example/keys", Access: Access{CAFile: w.caFile}})
	if keys, err := s.Find(t.Context(), "a", "ES256"); err != nil || ids(keys) != "a" {
		t.Errorf("found %s, %v", ids(keys), err)
	}
}

// TestFirstFetchFails: the source is there, and tells why it has no keys.
func TestFirstFetchFails(t *testing.T) {
	w := newWeb(t)
	set := setOf(t, ec(t, "a"))
	w.serve(t, "keys.example", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) })
	empty, missing, gap := write(t, "empty", nil), t.TempDir()+"/missing", write(t, "gap", []byte("a\nb"))
	for name, c := range map[string]struct {
		url    string
		access Access
		want   string
	}{
		"an unknown authority": {"https://keys.example/keys", Access{}, "certificate"},
		"another name":         {"https://other.example/keys", Access{CAFile: w.caFile}, "nothing listens"},
		"no CA in the file":    {"https://keys.example/keys", Access{CAFile: empty}, "has no PEM certificate"},
		"no CA file":           {"https://keys.example/keys", Access{CAFile: missing}, "no such file"},
		"no token file":        {"https://keys.example/keys", Access{CAFile: w.caFile, TokenFile: missing}, "no such file"},
		"an empty token file":  {"https://keys.example/keys", Access{CAFile: w.caFile, TokenFile: empty}, "has no bearer token"},
		"two tokens":           {"https://keys.example/keys", Access{CAFile: w.caFile, TokenFile: gap}, "has no bearer token"},
		"a folder as a token":  {"https://keys.example/keys", Access{CAFile: w.caFile, TokenFile: t.TempDir()}, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			states := make(chan State, 8)
			s := w.open(t, Options{URL: c.url, Access: c.access, Notify: func(st State) { states <- st }})
			st := <-states
			if st.Err == nil || !strings.Contains(st.Err.Error(), c.want) || st.Keys != 0 || !st.Fetched.IsZero() || st.Failures == 0 || st.Next.IsZero() {
				t.Errorf("the state is %+v, want an error with %q", st, c.want)
			}
			if s.State().Err == nil {
				t.Error("State has no error")
			}
		})
	}
}

// TestTokenFile: the token is read at each fetch, and goes to the host that it is for.
func TestTokenFile(t *testing.T) {
	tokens, others := make(chan string, 8), make(chan string, 8)
	w, keys := newWeb(t), setOf(t, ec(t, "a"))
	jwks := "https://issuer.example/keys"
	w.serve(t, "issuer.example", func(w http.ResponseWriter, r *http.Request) {
		tokens <- r.Header.Get("Authorization")
		if r.URL.Path == "/keys" {
			_, _ = w.Write(keys)
			return
		}
		_, _ = fmt.Fprintf(w, `{"issuer":"https://issuer.example","jwks_uri":%q}`, jwks)
	})
	w.serve(t, "keys.example", func(w http.ResponseWriter, r *http.Request) {
		others <- r.Header.Get("Authorization")
		_, _ = w.Write(keys)
	})
	first := Access{CAFile: w.caFile, TokenFile: write(t, "token", []byte("one\n"))}
	options := Options{Issuer: "https://issuer.example", Access: first, KeysAccess: Access{CAFile: w.caFile}}
	fetch := func(o Options) {
		t.Helper()
		s := Source{options: o}
		if err := s.configure(); err != nil {
			t.Fatal(err)
		}
		s.fetcher.dial = w.places.Dial
		if _, err := s.fetch(t.Context()); err != nil {
			t.Error(err)
		}
	}
	want := func(from chan string, want string) {
		t.Helper()
		if got := <-from; got != want {
			t.Errorf("authorization was %q, want %q", got, want)
		}
	}
	fetch(options)
	want(tokens, "Bearer one")
	want(tokens, "Bearer one")

	options.Access.TokenFile = write(t, "token", []byte("two"))
	jwks = "https://keys.example/"
	fetch(options)
	want(tokens, "Bearer two")
	want(others, "")

	options.KeysAccess.TokenFile = write(t, "token", []byte("three"))
	fetch(options)
	want(tokens, "Bearer two")
	want(others, "Bearer three")
}

func TestFreshness(t *testing.T) {
	for _, c := range []struct {
		control, age string
		want         time.Duration
	}{
		{"", "", 0},
		{"public", "", 0},
		{"max-age=600", "", 10 * time.Minute},
		{"public, Max-Age=600, must-revalidate", "", 10 * time.Minute},
		{`max-age="600"`, "", 10 * time.Minute},
		{"max-age=600", "540", time.Minute},
		{"max-age=600", "9999", time.Second},
		{"max-age=600", "garbage", 10 * time.Minute},
		{"max-age=0", "", time.Second},
		{"max-age=-5", "", 0},
		{"max-age=1e9", "", 0},
		{"max-age=", "", 0},
		{"max-age=99999999999999999999", "", (1<<31 - 1) * time.Second},
		{"no-store", "", time.Second},
		{"no-cache, max-age=600", "", time.Second},
		{"s-maxage=600", "", 0},
	} {
		header := http.Header{"Cache-Control": {c.control}}
		if c.age != "" {
			header.Set("Age", c.age)
		}
		if got := freshness(header); got != c.want {
			t.Errorf("%q with age %q: fresh for %v, want %v", c.control, c.age, got, c.want)
		}
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	w := newWeb(t)
	asked := make(chan bool, 1)
	w.serve(t, "keys.example", func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-asked
		cancel(errClosed)
	}()
	u := must(url.Parse("https://keys.example/keys"))
	if _, _, err := (fetcher{dial: w.places.Dial}).document(ctx, u, Access{CAFile: w.caFile}, 10); err == nil || err.Error() != "keys.example: the source of keys was closed" {
		t.Errorf("the fetch ended with %v", err)
	}
}
