package box

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// Options are what a box does. The zero value is that of a box which decrypts TLS, speaks
// HTTP/1.1 only, and lets everything pass.
type Options struct {
	Listener net.Listener                                                      // nil: one on loopback
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // towards edges; nil: TCP
	Roots    *x509.CertPool                                                    // for edges' certificates; nil: the system's
	Edge     string                                                            // the host and port that it stands in for; "": it is a proxy

	// CONNECT.
	User, Password string   // that it wants; "": none
	Schemes        []string // of its 407, as in the header; nil: `Basic realm="box"`
	ConnectCode    int      // the status of its answers to CONNECT; 0: 200, with a tunnel
	ConnectRaw     string   // the bytes of its answers to CONNECT, after which it closes; "": HTTP
	ConnectHangs   bool     // no answer to CONNECT

	// TLS.
	Tunnel    bool // TLS passes as it is
	Untrusted bool // its certificates are of a CA that Box.CA doesn't have
	TLSCut    bool // it closes the connection in place of a handshake
	TLSHangs  bool // no handshake
	HTTP2     bool // HTTP/2 on both sides, besides HTTP/1.1
	NoALPN    bool // it chooses no protocol
	H2Silent  bool // it chooses h2, and never says a word then

	// Requests.
	RefuseTypes   []string // content types that get its page: see isOneOf
	RefuseCode    int      // the status of its page; 0: 403
	RefuseServer  string   // Server in its page
	CutPosts      bool     // it cuts the connection of each POST
	Chunked       int      // the status of its answer to a request without Content-Length; 0: passes
	HoldRequests  bool     // it sends a request on when it has all of it
	HoldResponses bool     // it sends a response on when it has all of it
	HoldTypes     []string // content types of responses that it holds: see isOneOf
	MaxBody       int64    // bytes of a request; larger ones get 413; 0: no limit
	MaxHeader     int      // bytes of a request's header; larger ones get 431; 0: 64 KiB
	NoTrailers    bool     // it drops trailers
	DropHeaders   []string // fields of requests that it removes
	Via           bool     // it adds Via, both ways

	// WebSockets.
	Upgrade Upgrade

	// Connections of clients, whatever they carry.
	Age     time.Duration // after which it ends a connection
	Idle    time.Duration // after which it ends a connection on which nothing counted has passed
	Counts  Counts        // what counts for Idle in WebSockets
	Ends    Ending        // how
	MaxDown int64         // bytes to the client, after which nothing passes any more; 0: no limit
}

// An Upgrade is what a box does with WebSockets.
type Upgrade int

// The kinds of Upgrade.
const (
	Passes          Upgrade = iota
	Stripped                // the request goes on without Upgrade and Connection
	Refused                 // the box's page
	Hangs                   // no answer
	Dead                    // the handshake passes, and no byte behind it
	DeadAfterFirst          // nothing passes behind the first frame of the edge with data
	DeadToTheServer         // nothing passes to the edge behind the handshake
)

// Counts are what an idle time-out of a WebSocket takes for life.
type Counts int

// The kinds of Counts.
const (
	AnyByte  Counts = iota
	AnyData         // frames with data, either way
	Answered        // data of the edge behind data of the client
)

// An Ending is how a box ends connections.
type Ending int

// The kinds of Ending.
const (
	FIN   Ending = iota
	RST          // as far as the connection can: a pipe has only an end
	Quiet        // the connection stays, and nothing passes
)

// A Box is one that runs.
type Box struct {
	Proxy   string         // its URL, with credentials if it wants some
	Address string         // its host and port
	CA      *x509.CertPool // what its clients have to trust

	o         Options
	listener  net.Listener
	authority *parts.Authority
	server    *http.Server
	accepted  *parts.PipeListener // decrypted connections, for server
	life      context.Context
	stop      context.CancelFunc
	work      sync.WaitGroup

	mu     sync.Mutex
	conns  map[*conn]struct{}
	silent bool
	seen   []string
	certs  map[string]*tls.Certificate
}

// Start runs a box until the test ends.
func Start(t testing.TB, o Options) *Box {
	t.Helper()
	b := &Box{o: o, listener: o.Listener, authority: parts.NewAuthority(t), conns: map[*conn]struct{}{}, certs: map[string]*tls.Certificate{}}
	b.CA = b.authority.Pool
	if o.Untrusted {
		b.CA = parts.NewAuthority(t).Pool
	}
	if b.listener == nil {
		b.listener = parts.Listen(t, "127.0.0.1:0")
	}
	if b.o.Dial == nil {
		b.o.Dial = new(net.Dialer).DialContext
	}
	b.Address = b.listener.Addr().String()
	proxy := url.URL{Scheme: "http", Host: b.Address}
	if o.User != "" {
		proxy.User = url.UserPassword(o.User, o.Password)
	}
	b.Proxy = proxy.String()
	b.life, b.stop = context.WithCancel(context.Background())
	b.accepted = parts.ListenPipe(t)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2)
	protocols.SetUnencryptedHTTP2(o.HTTP2)
	b.server = &http.Server{
		Handler: http.HandlerFunc(b.serve), Protocols: protocols, MaxHeaderBytes: o.MaxHeader,
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), ConnContext: withConn,
	}
	b.work.Go(func() { _ = b.server.Serve(b.accepted) }) // it always returns an error
	b.work.Go(b.accept)
	t.Cleanup(b.Close)
	return b
}

// Close ends every connection, and waits. It may be called again.
func (b *Box) Close() {
	b.stop()
	_ = b.listener.Close() // it may be closed
	b.Cut()
	_ = b.server.Close() // its listener has no error
	b.work.Wait()
}

// Cut ends every connection of clients, as Options.Ends has it. New ones may come.
func (b *Box) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.end(b.life.Err() != nil)
	}
}

// Silence lets nothing pass any more, on no connection: it has them open and is silent.
func (b *Box) Silence() {
	b.mu.Lock()
	b.silent = true
	b.mu.Unlock()
	b.Forget()
}

// Forget is Silence for the connections that are open now. New ones pass.
func (b *Box) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		c.still()
	}
}

// Seen lists what the box has been asked, one line a request: "CONNECT edge:443",
// "POST /a.B/C".
func (b *Box) Seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.seen...)
}

// mostSeen bounds what a box remembers.
const mostSeen = 4096

func (b *Box) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.seen) < mostSeen {
		b.seen = append(b.seen, line)
	}
}

func (b *Box) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.work.Go(func() { b.handle(c) })
	}
}
