package box

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
)

// page is what the box answers in the edge's place.
const page = "<html><head><title>Access denied by corporate policy</title></head><body>Blocked by the box</body></html>\n"

// hop are the fields of one connection. RFC 9110 §7.6.1.
var hop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Proxy-Authorization"}

// newForward returns the client's side of the box, for one version of HTTP: a transport may
// mix them otherwise. Its requests name the target by withTarget.
func (b *Box) newForward(http2, secure bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2 && secure)
	protocols.SetUnencryptedHTTP2(http2 && !secure)
	offer := "http/1.1"
	if http2 {
		offer = "h2"
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		t, _ := ctx.Value(targetKey{}).(target)
		c, _, err := b.dialEdge(ctx, t.address, t.name, secure, offer)
		return c, err
	}
	return &http.Transport{Protocols: protocols, DisableCompression: true, DisableKeepAlives: true, DialContext: dial, DialTLSContext: dial}
}

type targetKey struct{}

// A target is where a request goes.
type target struct {
	address, name string
	http2         bool
}

func (b *Box) refuse(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "text/html")
	if b.o.RefuseServer != "" {
		w.Header().Set("Server", b.o.RefuseServer)
	}
	w.Header().Set("Connection", "close")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, page) // the client may be gone
}

// isOneOf reports whether a content type is one of the list, which may also have a family
// ("application/grpc" has "application/grpc+proto") and a beginning ("application/grpc*").
func isOneOf(list []string, kind string) bool {
	kind, _, _ = strings.Cut(kind, ";")
	return slices.ContainsFunc(list, func(of string) bool {
		begin, ok := strings.CutSuffix(of, "*")
		return kind == of || strings.HasPrefix(kind, of+"+") || ok && strings.HasPrefix(kind, begin)
	})
}

// serve sends a request on, or doesn't.
func (b *Box) serve(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	b.note(r.Method + " " + r.URL.Path)
	for _, name := range b.o.DropHeaders {
		r.Header.Del(name)
	}
	code := b.o.RefuseCode
	if code == 0 {
		code = http.StatusForbidden
	}
	switch {
	case b.o.MaxHeader > 0 && headerBytes(r) > b.o.MaxHeader: // net/http grants 4 KiB more
		b.refuse(w, http.StatusRequestHeaderFieldsTooLarge)
	case b.o.CutPosts && r.Method == http.MethodPost:
		panic(http.ErrAbortHandler)
	case isOneOf(b.o.RefuseTypes, r.Header.Get("Content-Type")):
		b.refuse(w, code)
	case b.o.MaxBody > 0 && r.ContentLength > b.o.MaxBody:
		b.refuse(w, http.StatusRequestEntityTooLarge)
	case b.o.Chunked != 0 && r.ContentLength < 0:
		b.refuse(w, b.o.Chunked)
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && b.o.Upgrade != Stripped:
		b.upgrade(w, r, c)
	default:
		b.pass(w, r, c)
	}
}

func headerBytes(r *http.Request) int {
	var n int
	for name, values := range r.Header {
		for _, v := range values {
			n += len(name) + len(v) + 4
		}
	}
	return n
}

// outgoing returns the request as it goes on.
func (b *Box) outgoing(ctx context.Context, r *http.Request, c *conn) (*http.Request, target) {
	t := target{address: c.target, http2: r.ProtoMajor == 2}
	t.name, _, _ = net.SplitHostPort(c.target) // what isn't one has no name
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
		if r.TLS.ServerName != "" {
			t.name = r.TLS.ServerName
		}
	}
	out := r.Clone(context.WithValue(ctx, targetKey{}, t))
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", scheme, r.Host
	out.Close = false
	for _, name := range hop {
		out.Header.Del(name)
	}
	if b.o.Via {
		out.Header.Add("Via", "1.1 box.corp.example")
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // else the transport adds one
	}
	return out, t
}

// pass sends a request on, and the answer back.
func (b *Box) pass(w http.ResponseWriter, r *http.Request, c *conn) {
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		_ = control.EnableFullDuplex() // net/http's own writers can
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	out, t := b.outgoing(ctx, r, c)
	if b.o.HoldRequests {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		if len(body) == 0 {
			out.Body = http.NoBody
		}
	}
	transport := b.newForward(t.http2, r.TLS != nil) // one for each request: clients are few
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(out)
	if err != nil {
		b.refuse(w, http.StatusBadGateway)
		return
	}
	defer func() { _ = answer.Body.Close() }() // only read
	hold := b.o.HoldResponses || isOneOf(b.o.HoldTypes, answer.Header.Get("Content-Type"))
	var held []byte
	if hold {
		if held, err = io.ReadAll(answer.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	h := w.Header()
	for name, values := range answer.Header {
		if !slices.Contains(hop, name) {
			h[name] = values
		}
	}
	if b.o.Via {
		h.Add("Via", "1.1 box.corp.example")
	}
	w.WriteHeader(answer.StatusCode)
	if hold {
		_, _ = w.Write(held) // the client may be gone
	} else {
		_ = control.Flush() // the client may be gone
		if copyFlushed(w, control, answer.Body) != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if !b.o.NoTrailers {
		for name, values := range answer.Trailer {
			h[http.TrailerPrefix+name] = values
		}
	}
}

func copyFlushed(w io.Writer, control *http.ResponseController, r io.Reader) error {
	for buf := make([]byte, 16<<10); ; {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return fmt.Errorf("to the client: %w", err)
			}
			if err := control.Flush(); err != nil {
				return fmt.Errorf("to the client: %w", err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("from the edge: %w", err)
		}
	}
}
