package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxInspectedBytes is the longest request body that an inspector takes.
const maxInspectedBytes = 1 << 20

// maxSightings is how many refusals an inspector remembers.
const maxSightings = 64

// An inspector is the box in an office's network that native gRPC doesn't get
// through: it ends each connection and makes another one, and speaks nothing
// but HTTP/1.1. It holds a request until it has seen all of it, and lets
// WebSockets upgrade. A real one ends TLS first; what happens inside is the
// same.
type inspector struct {
	server   *http.Server
	forward  *httputil.ReverseProxy
	life     context.Context // ends with close
	stop     context.CancelFunc
	handlers sync.WaitGroup // a server doesn't wait for upgraded connections

	mu        sync.Mutex
	closed    bool       // no handler begins any more
	sightings []sighting // the refused ones, oldest first
}

// A sighting is something that an inspector refused.
type sighting struct{ remote, text string }

// newInspector returns one that stands before the server at the address.
// It works until close: the context's values count, its end doesn't.
func newInspector(ctx context.Context, address string) *inspector {
	p := new(inspector)
	p.life, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: address})
			r.Out.Host = r.In.Host
			r.Out.Header.Set("Via", "1.1 inspecting-proxy")
		},
		Transport:     &http.Transport{Protocols: http1, DisableCompression: true},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // clients go away all the time
	}
	p.server = &http.Server{
		Handler:           p,
		Protocols:         http1,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return p.life },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, clientConn{}, c) },
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	return p
}

func (p *inspector) serve(ln net.Listener) error { return p.server.Serve(ln) }

// close ends every connection and waits for what served them.
func (p *inspector) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	_ = p.server.Close() // of its listener: nobody can act on it
	p.handlers.Wait()
	if t, ok := p.forward.Transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// ServeHTTP passes a request on, or refuses what isn't HTTP/1.1.
func (p *inspector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.begin() {
		panic(http.ErrAbortHandler)
	}
	defer p.handlers.Done()
	if conn, ok := r.Context().Value(clientConn{}).(net.Conn); ok {
		// Once upgraded, it is nobody else's to close: a client that stays would
		// keep the handler.
		defer context.AfterFunc(p.life, func() { _ = conn.Close() })() //nolint:contextcheck // the box ends here, not the request
	}
	if r.ProtoMajor != 1 { // net/http hands over HTTP/2's preface as a request
		p.note(r.RemoteAddr, fmt.Sprintf("%s %s %s: not HTTP/1.1, refused", r.Method, r.RequestURI, r.Proto))
		w.Header().Set("Connection", "close")
		http.Error(w, "this proxy speaks HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	if upgrade := r.Header.Get("Upgrade"); upgrade != "" && !strings.EqualFold(upgrade, "websocket") {
		r.Header.Del("Upgrade") // h2c, say: the client is left with HTTP/1.1
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInspectedBytes))
	if err != nil {
		http.Error(w, "this proxy can't inspect the request's body: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	p.forward.ServeHTTP(w, r)
}

// clientConn is where a request's context has the client's net.Conn.
type clientConn struct{}

// begin counts a handler that close has to wait for.
func (p *inspector) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.handlers.Add(1)
	}
	return !p.closed
}

func (p *inspector) note(remote, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sightings = append(p.sightings, sighting{remote, text})
	if over := len(p.sightings) - maxSightings; over > 0 {
		p.sightings = slices.Delete(p.sightings, 0, over)
	}
}

// refusedFrom returns what it refused of connections from these addresses.
func (p *inspector) refusedFrom(remotes []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	texts := []string{}
	for _, s := range p.sightings {
		if slices.Contains(remotes, s.remote) {
			texts = append(texts, s.text)
		}
	}
	return texts
}
