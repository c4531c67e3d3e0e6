package fallback

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// Fixed bounds of the connections to a web server. Nothing bounds a whole answer: it
// may be a stream of events.
const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	answerTimeout    = 5 * time.Minute // from the request's end to the answer's header
	takeTimeout      = 5 * time.Minute // for the web server to accept more of a request

	idleConns = 64
	// Less than after which common servers close an idle connection: 5 s in Node.js and
	// Uvicorn. A request that meets the close could not be sent again.
	idleTimeout = 4 * time.Second

	userTimeout = 20 * time.Second // TCP's

	// descriptorReserve is the number of file descriptors that connections to the web
	// server leave for those to the backends.
	descriptorReserve = 64
)

// An Exchange is one request of a client with its answer.
type Exchange interface {
	http.ResponseWriter

	// Fail answers the client in place of the web server. Nothing was written yet.
	Fail(err error)

	// Broke notes that the web server broke off its answer. Serve then panics with
	// http.ErrAbortHandler, so that half an answer doesn't pass for a whole one.
	Broke(err error)

	// Panicked notes a panic on a goroutine of the exchange, which it has ended. It may
	// run beside the other methods.
	Panicked(v any) error

	// Switch takes the client's connection over, for a WebSocket, and adds culvert's
	// fields to the header of the answer. Close makes waiting reads and writes return.
	Switch(answer http.Header) (Conn, error)
}

// A Conn is a connection after its switch to WebSocket. Read and Write may be called at
// the same time, and Close beside them, several times.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error // no more comes; the other direction stays
}

// A Proxy sends requests to one web server. Its zero value isn't usable.
type Proxy struct {
	target    target
	transport *http.Transport
	panics    *report.Panics  // of dials, which run on goroutines of the transport
	closed    context.Context // ends the dials under way
	close     context.CancelFunc

	serving atomic.Int64
	retired atomic.Bool
}

// New returns a Proxy for the web server at "http://host:port", "https://host:port" or
// "unix:/path". headerBytes bounds the header of an answer. Nothing is dialled yet.
// The system's CAs verify the certificate of an HTTPS server. panics may be nil.
func New(address string, headerBytes int64, panics *report.Panics) (*Proxy, error) {
	to, err := parseTarget(address)
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: to, panics: panics}
	p.closed, p.close = context.WithCancel(context.Background())
	p.transport = &http.Transport{
		DialContext:            p.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    handshakeTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConns:           idleConns,
		MaxIdleConnsPerHost:    idleConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: headerBytes,
		DisableCompression:     true, // the client's Accept-Encoding counts
	}
	return p, nil
}

// Retire closes the connections to the web server after the last request. Requests may
// still begin.
func (p *Proxy) Retire() {
	p.retired.Store(true)
	p.rest()
}

// Close closes the connections to the web server. No request may be under way.
func (p *Proxy) Close() {
	p.close()
	p.transport.CloseIdleConnections()
}

// rest closes the connections of a retired Proxy that serves nothing.
func (p *Proxy) rest() {
	if p.retired.Load() && p.serving.Load() == 0 {
		p.transport.CloseIdleConnections()
	}
}

// errDescriptors reports that few file descriptors are left.
var errDescriptors = errors.New("too few file descriptors are left for a connection to the web server")

// dial connects to the web server, whatever address the request names.
func (p *Proxy) dial(ctx context.Context, _, _ string) (conn net.Conn, err error) {
	defer p.panics.Catch("a connection to the web server", func(f *report.Fault) { err = f })
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(p.closed, cancel)() //nolint:contextcheck // the Proxy may be closed first
	d := net.Dialer{
		// TCP notices a lost host within 30 s, as with backends.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         socket.ControlUserTimeout(userTimeout),
	}
	c, err := d.DialContext(ctx, p.target.network, p.target.address)
	if err != nil {
		return nil, err
	}
	if limit := socket.DescriptorLimit(); limit > 4*descriptorReserve && socket.Descriptor(c) >= limit-descriptorReserve {
		_ = c.Close() // nothing was sent
		return nil, errDescriptors
	}
	return patientConn{c}, nil
}

// A patientConn bounds how long the web server may accept nothing.
type patientConn struct{ net.Conn }

func (c patientConn) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(takeTimeout)) // Write returns the error of a closed one
	return c.Conn.Write(b)
}

// CloseWrite closes the sending side.
func (c patientConn) CloseWrite() error { return socket.CloseWrite(c.Conn) }

// Serve sends the request to the web server, and its answer to the client. The request's
// header goes out as it is, but for fields of one connection. An Upgrade in it must be
// that of a WebSocket. The context ends the exchange, a WebSocket included.
func (p *Proxy) Serve(x Exchange, r *http.Request) {
	p.serving.Add(1)
	defer func() {
		p.serving.Add(-1)
		p.rest()
	}()
	broken := false
	one := httputil.ReverseProxy{
		Transport:  p.transport,
		BufferPool: buffers{},
		ErrorLog:   quiet, // x learns of every error
		Rewrite:    p.rewrite,
		ModifyResponse: func(res *http.Response) error {
			if res.StatusCode == http.StatusSwitchingProtocols {
				return carry(x, r, res)
			}
			res.Body = &answerBody{res.Body, func(err error) {
				broken = true
				x.Broke(err)
			}}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, errCarried) {
				x.Fail(err)
			}
		},
	}
	one.ServeHTTP(x, r)
	if broken {
		panic(http.ErrAbortHandler)
	}
}

// rewrite addresses a request to the web server. Host, path and query stay as the client
// sent them.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL.Scheme, out.URL.Host = p.target.scheme, p.target.host
	out.URL.RawQuery, out.Host = pr.In.URL.RawQuery, pr.In.Host
	out.Trailer = nil                                                                           // some servers merge trailers into the header, behind culvert's own fields
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} { // ReverseProxy has removed them
		if values := pr.In.Header[name]; values != nil {
			out.Header[name] = values
		}
	}
}

// An answerBody reports that the web server broke off.
type answerBody struct {
	io.ReadCloser
	broke func(error)
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.broke(err)
	}
	return n, err
}

// bufferBytes is the size of the pieces that are copied.
const bufferBytes = 32 << 10

// buffers lends buffers to all exchanges.
type buffers struct{}

var bufferPool = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

func (buffers) Get() []byte  { return bufferPool.Get().(*[bufferBytes]byte)[:] }
func (buffers) Put(b []byte) { bufferPool.Put((*[bufferBytes]byte)(b)) }

var quiet = log.New(io.Discard, "", 0)
