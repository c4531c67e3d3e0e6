package jwk

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// Keys of each kind. Making RSA keys takes long.
var (
	rsaPrivate  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	p256Private = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edPublic    = sync.OnceValue(func() ed25519.PublicKey {
		public, _, err := ed25519.GenerateKey(rand.Reader)
		return must(public, err)
	})
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// member returns a key as a member of a set, with more members, or with nil for those to leave out.
func member(t testing.TB, key any, kid string, more map[string]any) map[string]any {
	t.Helper()
	data, err := jose.JSONWebKey{Key: key, KeyID: kid}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for name, value := range more {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	return m
}

// ec returns a new P-256 key as a member.
func ec(t testing.TB, kid string) map[string]any {
	t.Helper()
	return member(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).Public(), kid, nil)
}

// setOf returns a key set.
func setOf(t testing.TB, members ...map[string]any) []byte {
	t.Helper()
	if members == nil {
		members = []map[string]any{}
	}
	data, err := json.Marshal(map[string]any{"keys": members})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A web is a network in memory, with an authority for its hosts.
type web struct {
	places    parts.Places
	authority *parts.Authority
	caFile    string
	read      atomic.Int64 // bytes that sources have read
}

func (w *web) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := w.places.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return counted{c, &w.read}, nil
}

// counted is a connection that counts what is read from it.
type counted struct {
	net.Conn
	read *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func newWeb(t *testing.T) *web {
	t.Helper()
	w := &web{places: parts.Places{}, authority: parts.NewAuthority(t)}
	w.caFile = write(t, "ca.pem", w.authority.PEM())
	return w
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// serve serves a host: https, or http for localhost. Its certificate is good for an hour.
func (w *web) serve(t *testing.T, host string, handler http.HandlerFunc) {
	t.Helper()
	address := host + ":443"
	if host == "localhost" {
		address = "localhost:80"
	}
	listener := w.places.Listen(t, address)
	if host != "localhost" {
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{w.authority.Server(t, host)}, MinVersion: tls.VersionTLS13})
	}
	var serving sync.WaitGroup
	counted := func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		handler(w, r)
	}
	server := &http.Server{Handler: http.HandlerFunc(counted), ReadHeaderTimeout: time.Hour, ErrorLog: log.New(io.Discard, "", 0)}
	serving.Go(func() { _ = server.Serve(listener) }) // until Close
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
}

// open opens a source in the web. The test ends with no goroutine of it left.
func (w *web) open(t *testing.T, options Options) *Source {
	t.Helper()
	s, err := open(options, w.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// An answer is what a server of keys says. Tests change it between fetches.
type answer struct {
	fetches atomic.Int32

	mu      sync.Mutex
	status  int
	body    []byte
	header  map[string]string
	handler http.HandlerFunc // in place of the others
}

func (a *answer) set(change func(*answer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *answer) body200(body []byte) {
	a.set(func(a *answer) { a.body, a.status, a.handler = body, 0, nil })
}

func (a *answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.fetches.Add(1)
	a.mu.Lock()
	status, body, header, handler := a.status, a.body, a.header, a.handler
	a.mu.Unlock()
	if handler != nil {
		handler(w, r)
		return
	}
	for name, value := range header {
		w.Header().Set(name, value)
	}
	if status != 0 {
		w.WriteHeader(status)
	}
	_, _ = w.Write(body) // the reader may have gone
}

// ids returns the kids of keys.
func ids(keys []*Key) string {
	var list []string
	for _, key := range keys {
		list = append(list, key.id)
	}
	return strings.Join(list, " ")
}
