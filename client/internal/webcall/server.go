package webcall

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// connBuffer is what a connection in memory holds in each direction, in bytes.
const connBuffer = 256 << 10

// A Server takes connections in memory, and sends their calls as gRPC-Web.
type Server struct {
	http     *http.Server
	ln       *bufconn.Listener
	trip     http.RoundTripper
	o        Options
	twoWay   atomic.Bool
	beats    atomic.Bool
	gathered account // bytes of requests
	held     account // bytes of answers
	path     *path
	work     sync.WaitGroup
	stop     context.CancelFunc

	calls  sync.WaitGroup
	mu     sync.Mutex // orders calls.Add before calls.Wait
	closed bool
}

// Options are what New needs besides a RoundTripper.
type Options struct {
	URL func(path string) string // of a method's path

	// Unsent reports whether an error of the RoundTripper means that it has got no
	// connection. The call is then tried again for a while: nobody has seen it.
	Unsent func(error) bool

	// Lost is told of each call that a connection has failed, before its client is, and
	// ErrSilent once for all calls.
	Lost func(error)

	// Prove returns nil once the edge has answered on another connection, or if that can't
	// tell whether the path delivers.
	Prove func(context.Context) error
}

// New returns a Server that sends requests by trip. The caller closes it.
func New(trip http.RoundTripper, o Options) *Server {
	s := &Server{ln: bufconn.Listen(connBuffer), trip: trip, o: o, path: newPath()}
	s.gathered.left.Store(maxGatheredInAll)
	s.held.left.Store(maxHeldInAll)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: s, Protocols: &protocols, MaxHeaderBytes: maxBlock, ReadHeaderTimeout: time.Minute,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 1000},
		ErrorLog: log.New(io.Discard, "", 0), // calls have its errors, and standard error is the program's
	}
	s.work.Go(func() { _ = s.http.Serve(s.ln) }) // until Close
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.work.Go(func() { s.watch(ctx) })
	return s
}

// SetTwoWay says whether both directions of a request stream.
func (s *Server) SetTwoWay(yes bool) { s.twoWay.Store(yes) }

// SetBeats says whether the edge sends heart-beats to those who ask for them.
func (s *Server) SetBeats(yes bool) { s.beats.Store(yes) }

// Dial opens a connection.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return s.ln.DialContext(ctx) }

// Close ends all calls, and waits for them.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	_ = s.http.Close() // it closes connections in memory, and waits for no handler
	s.stop()
	s.work.Wait()
	s.calls.Wait()
}

// enter notes a call, unless the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.calls.Add(1)
	return true
}
