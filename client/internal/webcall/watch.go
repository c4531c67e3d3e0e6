package webcall

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
)

// A watched connection tells when it is lost. net/http waits for a request's body before it
// returns an error of the connection, and the body may be a client that waits for an answer.
type watched struct {
	net.Conn
	lost context.Context //nolint:containedctx // it is the event
	lose context.CancelFunc
	path *path
}

// Watch returns the connection for the transport of New.
func (s *Server) Watch(c net.Conn) net.Conn {
	w := &watched{Conn: c, path: s.path}
	w.lost, w.lose = context.WithCancel(context.Background())
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.path.hear()
	}
	if err != nil {
		w.lose()
	}
	return n, err
}

// NetConn returns the connection below, for those that ask the kernel about it.
func (w *watched) NetConn() net.Conn { return w.Conn }

func (w *watched) Close() error {
	w.lose()
	return w.Conn.Close()
}

// whenLost has f run once the connection that the request gets is lost, unless stop was called
// before.
func whenLost(r *http.Request, f func()) (_ *http.Request, stop func()) {
	var mu sync.Mutex
	var stops []func() bool
	ctx := httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if w, ok := info.Conn.(*watched); ok {
			mu.Lock()
			defer mu.Unlock()
			stops = append(stops, context.AfterFunc(w.lost, f))
		}
	}})
	return r.WithContext(ctx), func() {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range stops {
			s()
		}
	}
}
