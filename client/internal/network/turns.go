package network

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Refused reports whether the proxy has refused the tunnel, as it would refuse the next one.
func (e *Error) Refused() bool {
	return e.LoggedIn || e.Answer != nil && (e.Answer.Code == http.StatusProxyAuthRequired || e.Answer.Code == http.StatusForbidden)
}

// Turns have one request for a tunnel find out whether the proxy opens tunnels, before others
// are sent. Once the proxy has refused one, it isn't asked again before Begin: each attempt
// with a wrong password counts. The zero value is ready. Its methods may be called
// concurrently.
type Turns struct {
	mu      sync.Mutex
	open    bool          // the proxy has opened a tunnel: requests need no turn
	refused *Error        // nil: it hasn't
	asking  chan struct{} // closed at the end of the request whose turn it is; nil: none
}

// Begin has the proxy asked anew.
func (t *Turns) Begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.refused = false, nil
}

// Doubt has the next request show again whether the proxy opens tunnels.
func (t *Turns) Doubt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = false
}

// take asks when it is its turn, or returns why the proxy has refused another request.
func (t *Turns) take(ctx context.Context, ask func() (net.Conn, error)) (net.Conn, error) {
	for {
		t.mu.Lock()
		refused, open, asking := t.refused, t.open, t.asking
		if refused == nil && !open && asking == nil {
			t.asking = make(chan struct{})
		}
		t.mu.Unlock()
		switch {
		case refused != nil:
			return nil, refused
		case open || asking == nil:
			conn, err := ask()
			t.note(err, !open)
			return conn, err
		}
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, endOf(ctx)
		}
	}
}

func (t *Turns) note(err error, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := asError(err); ok && e.Refused() {
		t.open, t.refused = false, e
	} else if err == nil {
		t.open, t.refused = true, nil
	}
	if mine {
		close(t.asking)
		t.asking = nil
	}
}
