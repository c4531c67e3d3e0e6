package network

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A world is a network in memory, in a bubble of time.
type world struct {
	t *testing.T
	parts.Places
}

// edge answers each connection at the edge's address with a word.
func (w *world) edge(config *tls.Config) {
	ln := w.Listen(w.t, "edge.example.com:443")
	w.serve(ln, func(c net.Conn) {
		t := tls.Server(c, config)
		if t.HandshakeContext(w.t.Context()) == nil {
			_, _ = io.WriteString(t, "hello") // the client may be gone
		}
		_ = t.Close() // it may be closed
	})
}

func (w *world) serve(ln net.Listener, handle func(net.Conn)) {
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go handle(c)
		}
	}()
	w.t.Cleanup(func() { _ = ln.Close() }) // it has no error
}

func inBubble(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(&world{t, map[string]*parts.PipeListener{}}) })
}

func target(t testing.TB, s string) Target {
	t.Helper()
	to, err := ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func through(t testing.TB, proxy string) func(*url.URL) (*url.URL, error) {
	t.Helper()
	p, err := Through(proxy)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestProxies: what each proxy does to CONNECT has an error with its stage, its cause and the
// remedy, in at most 11 s, and none has a password.
func TestProxies(t *testing.T) {
	const address, login = "http://proxy.corp.example:3128", "http://me:secret@proxy.corp.example:3128"
	for name, c := range map[string]struct {
		o     box.Options
		proxy string
		ask   func(context.Context, *url.URL) (string, string, error)
		stage Stage // "": it works
		says  string
	}{
		"it works":                   {box.Options{}, address, nil, "", ""},
		"Basic":                      {box.Options{User: "me", Password: "secret"}, login, nil, "", ""},
		"Basic, asked for":           {box.Options{User: "me", Password: "secret"}, address, asked("me", "secret"), "", ""},
		"Basic, and none":            {box.Options{User: "me", Password: "secret"}, address, nil, Proxy, "it wants a user and a password: write them into the proxy's address"},
		"Basic, and wrong":           {box.Options{User: "me", Password: "other"}, login, nil, Proxy, "the user or the password is wrong"},
		"Basic, wrong when asked":    {box.Options{User: "me", Password: "other"}, address, asked("me", "secret"), Proxy, "the user or the password is wrong"},
		"asking fails":               {box.Options{User: "me", Password: "secret"}, address, func(context.Context, *url.URL) (string, string, error) { return "", "", errors.New("no key ring") }, Proxy, "credentials for the proxy: no key ring"},
		"NTLM":                       {box.Options{Schemes: []string{"NTLM"}}, login, asked("me", "secret"), Proxy, "it wants NTLM, which this program doesn't speak: run a local proxy"},
		"Kerberos or NTLM":           {box.Options{Schemes: []string{"Negotiate", "NTLM"}}, address, nil, Proxy, "it wants Negotiate or NTLM, which"},
		"Digest":                     {box.Options{Schemes: []string{`Digest realm="a, b", nonce="c=", qop = "auth"`}}, address, nil, Proxy, "it wants Digest, which"},
		"several in one field":       {box.Options{Schemes: []string{`Negotiate, Basic realm="x, y"`}}, address, nil, Proxy, "it wants a user and a password"},
		"no scheme":                  {box.Options{Schemes: []string{""}}, address, nil, Proxy, "it wants an unknown scheme"},
		"403":                        {box.Options{ConnectCode: 403}, address, nil, Proxy, "it answered 403 Forbidden: it doesn't allow this host or port"},
		"502":                        {box.Options{ConnectCode: 502}, address, nil, Proxy, "it answered 502 Bad Gateway: it can't reach the host"},
		"302":                        {box.Options{ConnectCode: 302}, address, nil, Proxy, "it answered 302 Found"},
		"it hangs":                   {box.Options{ConnectHangs: true}, address, nil, Proxy, "no answer from the proxy in time"},
		"an interim answer, and 403": {box.Options{ConnectRaw: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n"}, address, nil, Proxy, "it answered 403 No"},
		"escapes":                    {box.Options{ConnectRaw: "HTTP/1.1 407 X\x1b]0;PWNED\x07\r\n\r\n"}, address, nil, Proxy, "it answered 407 X?]0;PWNED?: it wants"},
		"escapes that aren't HTTP":   {box.Options{ConnectRaw: "HTTP/1.1 200 OK\r\n\u009b31m\r\n\r\n"}, address, nil, Proxy, "isn't HTTP/1.1: malformed MIME header"},
		"it closes":                  {box.Options{ConnectRaw: "HTTP/1.1 200"}, address, nil, Proxy, "it closed the connection before the end of its answer"},
		"it closes at once":          {box.Options{ConnectRaw: "\r\n"}, address, nil, Proxy, "CONNECT"},
		"it isn't HTTP":              {box.Options{ConnectRaw: "SSH-2.0-box\r\n\r\n"}, address, nil, Proxy, "isn't HTTP/1.1"},
		"a huge answer":              {box.Options{ConnectRaw: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxAnswer)}, address, nil, Proxy, "is over 65536 bytes"},
		"many fields":                {box.Options{ConnectRaw: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxAnswer)}, address, nil, Proxy, "is over 65536 bytes"},
		"it hangs, SOCKS5":           {box.Options{}, "socks5://proxy.corp.example:3128", nil, Proxy, "no answer from the proxy in time"},
		"nobody":                     {box.Options{}, "http://nobody.corp.example:3128", nil, Connect, "through the proxy nobody.corp.example:3128"},
		"TLS cut":                    {box.Options{TLSCut: true}, address, nil, TLS, "a firewall may refuse this host by its name"},
		"TLS silent":                 {box.Options{TLSHangs: true}, address, nil, TLS, "no answer to the TLS handshake in time"},
		"a CA of its own":            {box.Options{Untrusted: true}, address, nil, TLS, `the certificate's issuer is "CN=test CA"`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.edge(&tls.Config{Certificates: []tls.Certificate{parts.NewAuthority(w.t).Server(w.t, "edge.example.com")}})
				c.o.Listener, c.o.Dial = w.Listen(w.t, "proxy.corp.example:3128"), w.Dial
				b := box.Start(w.t, c.o)
				n := &Network{Proxy: through(w.t, c.proxy), Login: c.ask, TLS: &tls.Config{RootCAs: b.CA}, Dialer: w.Dial}
				began := time.Now()
				conn, err := n.Dial(w.t.Context(), target(w.t, "https://edge.example.com"), "http/1.1")
				if took := time.Since(began); took > 11*time.Second {
					w.t.Errorf("it took %v", took)
				}
				if c.stage == "" {
					if err != nil {
						w.t.Fatal(err)
					}
					_ = conn.Close() // it is over
					return
				}
				e, ok := errors.AsType[*Error](err)
				if !ok || e.Stage != c.stage || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
					w.t.Errorf("got %v, want %q at %s", err, c.says, c.stage)
				}
				if shown := terminal.Text(err.Error()); shown != err.Error() {
					w.t.Errorf("%q isn't printable", err)
				}
			})
		})
	}
}

func asked(user, password string) func(context.Context, *url.URL) (string, string, error) {
	return func(context.Context, *url.URL) (string, string, error) { return user, password, nil }
}

// TestTheContextEndsEachStage: at once, and its cause is in the error.
func TestTheContextEndsEachStage(t *testing.T) {
	cause := errors.New("enough")
	for name, o := range map[string]box.Options{"the proxy": {ConnectHangs: true}, "TLS": {TLSHangs: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				o.Listener, o.Dial = w.Listen(w.t, "proxy.corp.example:3128"), w.Dial
				box.Start(w.t, o)
				n := &Network{Proxy: through(w.t, "http://proxy.corp.example:3128"), Dialer: w.Dial}
				ctx, cancel := context.WithCancelCause(w.t.Context())
				time.AfterFunc(time.Second, func() { cancel(cause) })
				began := time.Now()
				_, err := n.Dial(ctx, target(w.t, "https://edge.example.com"), "h2")
				if took := time.Since(began); !errors.Is(err, cause) || took != time.Second {
					w.t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// TestLateProxy: the caller's own bound is told as the proxy's silence, also to those that had no
// turn to ask it.
func TestLateProxy(t *testing.T) {
	inBubble(t, func(w *world) {
		box.Start(w.t, box.Options{ConnectHangs: true, Listener: w.Listen(w.t, "proxy.corp.example:3128"), Dial: w.Dial})
		n := &Network{Proxy: through(w.t, "http://proxy.corp.example:3128"), Dialer: w.Dial, Turns: new(Turns)}
		ctx, cancel := context.WithTimeoutCause(w.t.Context(), time.Second, errors.New("the caller's"))
		defer cancel()
		var dials sync.WaitGroup
		for range 3 {
			dials.Go(func() {
				if _, err := n.Dial(ctx, target(w.t, "https://edge.example.com"), "h2"); err == nil || !strings.Contains(err.Error(), "no answer from the proxy in time") {
					w.t.Errorf("%v", err)
				}
			})
		}
		dials.Wait()
	})
}

// offered has the other side offer "hX" in place of "h2" in ALPN.
type offered struct{ net.Conn }

func (o offered) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	copy(p, bytes.ReplaceAll(p[:n], []byte("\x02h2"), []byte("\x02hX")))
	return n, err
}

// TestHandshakes: each way in which TLS fails has its cause and its remedy.
func TestHandshakes(t *testing.T) {
	inBubble(t, func(w *world) {
		a := parts.NewAuthority(w.t)
		good := a.Server(w.t, "edge.example.com")
		expired := func() tls.Certificate {
			pair := a.Sign(w.t, &x509.Certificate{DNSNames: []string{"edge.example.com"}, Subject: pkix.Name{CommonName: "old"}})
			return pair
		}()
		ln := w.Listen(w.t, "plain.example.com:443")
		w.serve(ln, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); _ = c.Close() })
		odd := w.Listen(w.t, "odd.example.com:443")
		w.serve(odd, func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example.com ESMTP\r\n"); _ = c.Close() })
		other := w.Listen(w.t, "other.example.com:443")
		w.serve(other, func(c net.Conn) {
			t := tls.Server(offered{c}, &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"hX"}, MaxVersion: tls.VersionTLS12})
			_ = t.HandshakeContext(w.t.Context()) // the client refuses it
			_ = c.Close()
		})
		for name, c := range map[string]struct {
			to     string
			config *tls.Config
			now    time.Duration
			offer  []string
			stage  Stage
			says   string
		}{
			"another name":  {"https://edge.example.com", &tls.Config{Certificates: []tls.Certificate{a.Server(w.t, "other.example.com")}}, 0, nil, TLS, "the certificate is another host's"},
			"expired":       {"https://edge.example.com", &tls.Config{Certificates: []tls.Certificate{expired}}, 2 * time.Hour, nil, TLS, "compare this machine's clock"},
			"unknown CA":    {"https://edge.example.com", &tls.Config{Certificates: []tls.Certificate{parts.NewAuthority(w.t).Server(w.t, "edge.example.com")}}, 0, nil, TLS, "trust its CA"},
			"no such ALPN":  {"https://edge.example.com", &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"http/1.1"}}, 0, []string{"h2"}, ALPN, "doesn't speak the protocol"},
			"another ALPN":  {"https://other.example.com", nil, 0, []string{"h2"}, ALPN, "that this program didn't offer"},
			"HTTP":          {"https://plain.example.com", nil, 0, nil, TLS, "it answered in plaintext HTTP"},
			"another one":   {"https://odd.example.com", nil, 0, nil, TLS, "doesn't speak TLS"},
			"good":          {"https://edge.example.com", &tls.Config{Certificates: []tls.Certificate{good}}, 0, []string{"h2"}, "", ""},
			"an old client": {"https://edge.example.com", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS11}, 0, nil, TLS, "protocol version"},
		} {
			if c.config != nil {
				w.edge(c.config)
			}
			later := time.Now().Add(c.now)
			n := &Network{TLS: &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12, Time: func() time.Time { return later }}, Dialer: w.Dial}
			conn, err := n.Dial(w.t.Context(), target(w.t, c.to), c.offer...)
			e, _ := errors.AsType[*Error](err)
			switch {
			case c.stage == "" && err == nil:
				_ = conn.Close() // it is over
			case c.stage == "", e == nil, e.Stage != c.stage, !strings.Contains(err.Error(), c.says):
				w.t.Errorf("%s: %v, want %q at %s", name, err, c.says, c.stage)
			}
		}
	})
}

// TestNames: a name that doesn't resolve is told from a connection that fails.
func TestNames(t *testing.T) {
	n := &Network{Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "edge.example.com", IsNotFound: true}}
	}}
	_, err := n.Connect(t.Context(), target(t, "https://edge.example.com"))
	if e, ok := errors.AsType[*Error](err); !ok || e.Stage != Resolve || !strings.Contains(err.Error(), "set HTTPS_PROXY") {
		t.Errorf("got %v", err)
	}
}

func TestTargets(t *testing.T) {
	for s, want := range map[string]Target{
		"https://edge.example.com":       {Secure: true, Host: "edge.example.com", Port: "443"},
		"wss://edge.example.com:8443/a/": {Secure: true, Host: "edge.example.com", Port: "8443", Prefix: "/a"},
		"http://[::1]:8080":              {Host: "::1", Port: "8080"},
		"ws://edge":                      {Host: "edge", Port: "80"},
	} {
		if got, err := ParseTarget(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "edge", "edge:443", "https://", "https://:443", "ftp://edge", "https://a:secret@edge", "https://edge?secret", "https://edge#secret", "https://%zz/secret@", "https://a:12?secret@edge", "https://a:12/secret@edge", "https://edge?a@secret", "a:secret@edge:443"} {
		if got, err := ParseTarget(s); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

func TestSchemes(t *testing.T) {
	for value, want := range map[string][]string{
		"Basic realm=\"x\"":                    {"Basic"},
		"NTLM TlRMTVNTUAAC==":                  {"NTLM"},
		"Negotiate, NTLM, Basic realm=\"a,b\"": {"Negotiate", "NTLM", "Basic"},
		"Digest realm = \"a\", nonce = \"b\"":  {"Digest"},
		"":                                     {"an unknown scheme"},
		"\"=\", ,":                             {"an unknown scheme"},
	} {
		if got := (&Answer{Header: http.Header{"Proxy-Authenticate": {value}}}).schemes(); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// FuzzReadAnswer: whatever a proxy answers, nothing behind the header is read, and no more
// than the bound.
func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n\r\nbehind", "HTTP/1.0 407 x\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "\n\n", "HTTP/1.1 200 OK\nX: y\n z\n\nbehind"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := strings.NewReader(string(in))
		answer, err := readAnswer(r)
		read := len(in) - r.Len()
		switch {
		case read > maxAnswer:
			t.Errorf("%d bytes were read", read)
		case err != nil && answer != nil:
			t.Errorf("both %v and %v", answer, err)
		case err == nil && !strings.HasSuffix(string(in[:read]), "\n"):
			t.Errorf("%q was read, which doesn't end with a header", in[:read])
		}
		if answer != nil {
			_ = answer.remedy(false)
			_ = answer.remedy(true)
		}
	})
}
