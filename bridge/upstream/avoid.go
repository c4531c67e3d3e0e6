package upstream

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// avoidedPause is how long other addresses get the calls after an address has refused
// one, so that another attempt doesn't reach it again.
const avoidedPause = time.Second

// avoid gives the calls to other addresses for a moment: a has refused one. The pool's mu
// is held.
func (a *backendAddress) avoid() {
	p := a.pool
	if a.avoided != nil || p.closed || len(p.addresses) < 2 || !slices.Contains(p.addresses, a) {
		return
	}
	a.avoided = p.after(avoidedPause, func() {
		a.avoided = nil
		p.choose()
		p.grant()
	})
	p.choose()
}

// refusedOn notes that a call on the link was refused: grpc-go may have released its
// place without the reason. l may be nil.
func (p *pool) refusedOn(l *backendLink) {
	if l == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.conn.address.avoid()
}

// isRefusal reports whether a call ended because the backend didn't want it, and surely
// hasn't seen it. RFC 9113 §8.7.
func isRefusal(err error) bool {
	text := status.Convert(err).Message()
	return status.Code(err) == codes.Unavailable && (strings.HasPrefix(text, rstRefused) || text == leftOut || text == leftOutHeader)
}
