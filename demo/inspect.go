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

// maxInspectedBytes is the longest request body that an inspector accepts.
const maxInspectedBytes = 1 << 20

// maxSightings is how many requests an inspector remembers.
const maxSightings = 256

// An inspector is the inspecting proxy of a company's network: native gRPC
// can't pass it. It terminates each connection, opens one of its own to the
// server, and speaks only HTTP/1.1. It buffers each request whole before it
// forwards the request, and it lets WebSockets upgrade. A real one also
// terminates TLS; it treats the requests inside in the same way.
type inspector struct {
	server   *http.Server
	forward  *httputil.ReverseProxy
	life     context.Context // ends with close
	stop     context.CancelFunc
	handlers sync.WaitGroup // a server doesn't wait for upgraded connections

	mu        sync.Mutex
	closed    bool       // no handler begins any more
	sightings []sighting // the newest ones, oldest first
	noted     int        // sightings, with those that are forgotten
}

// A sighting is a request that an inspector refused or forwarded.
type sighting struct{ remote, text string }

// newInspector returns an inspector in front of the server at the address.
// It works until close: it uses the context's values and ignores its end.
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
		ErrorLog:      log.New(io.Discard, "", 0), // clients disconnect all the time
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

// close closes every connection and waits for the handlers.
func (p *inspector) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	_ = p.server.Close() // an error of its listener: nobody can act on it
	p.handlers.Wait()
	if t, ok := p.forward.Transport.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// ServeHTTP forwards a request, or refuses one that isn't HTTP/1.1.
func (p *inspector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.begin() {
		panic(http.ErrAbortHandler)
	}
	defer p.handlers.Done()
	if conn, ok := r.Context().Value(clientConn{}).(net.Conn); ok {
		// The server doesn't close upgraded connections: without this, a client
		// that stays would keep the handler.
		defer context.AfterFunc(p.life, func() { _ = conn.Close() })() //nolint:contextcheck // the proxy ends here, not the request
	}
	seen := fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, r.Proto)
	if r.ProtoMajor != 1 { // net/http hands over HTTP/2's preface as a request
		p.note(r.RemoteAddr, seen+": not HTTP/1.1, refused")
		w.Header().Set("Connection", "close")
		http.Error(w, "this proxy speaks HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	if upgrade := r.Header.Get("Upgrade"); strings.EqualFold(upgrade, "websocket") {
		seen += " with Upgrade: websocket"
	} else if upgrade != "" {
		r.Header.Del("Upgrade") // such as h2c: the client stays with HTTP/1.1
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInspectedBytes))
	if err != nil {
		http.Error(w, "this proxy can't inspect the request's body: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	p.note(r.RemoteAddr, seen+": forwarded")
	p.forward.ServeHTTP(w, r)
}

// clientConn is the key of the client's net.Conn in a request's context.
type clientConn struct{}

// begin registers a handler for close to wait for. It returns false after close.
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
	p.noted++
	p.sightings = append(p.sightings, sighting{remote, text})
	if over := len(p.sightings) - maxSightings; over > 0 {
		p.sightings = slices.Delete(p.sightings, 0, over)
	}
}

// watch returns a function that lists what the inspector did after watch with
// requests from the addresses. It leaves out earlier requests, because a client
// can get the port of a client that is gone.
func (p *inspector) watch() (seenFrom func(remotes []string) []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	begin := p.noted
	return func(remotes []string) []string {
		p.mu.Lock()
		defer p.mu.Unlock()
		forgotten := p.noted - len(p.sightings)
		texts := []string{}
		for _, s := range p.sightings[max(0, begin-forgotten):] {
			if slices.Contains(remotes, s.remote) {
				texts = append(texts, s.text)
			}
		}
		return texts
	}
}
