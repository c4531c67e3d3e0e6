package bridge

import (
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/quota"
)

// maxCallers bounds the identities of a tunnel. With more, older calls end with their own credential.
const maxCallers = 64

// tunnelCallers are the identities that calls in a tunnel have proved by credentials of their own. A
// newer credential of such an identity extends these calls, and no others: several programs may
// share a tunnel, so it never becomes the credential of calls that have none.
type tunnelCallers struct {
	mu    sync.Mutex
	newer map[quota.Identity]*expiry // of the credential that came last
}

// begin returns the expiry of a call.
func (cs *tunnelCallers) begin(id *Identity) *expiry {
	e := newExpiry(id.Expires)
	e.newer = cs.note(id)
	return e
}

// note notes a call, and returns the expiry that a newer credential sets.
func (cs *tunnelCallers) note(id *Identity) *expiry {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	key := quota.Identity{Issuer: id.Issuer, Name: id.Name}
	newer := cs.newer[key]
	if newer == nil {
		if cs.newer == nil || len(cs.newer) >= maxCallers {
			cs.newer = make(map[quota.Identity]*expiry)
		}
		newer = newExpiry(time.Unix(1, 0)) // there is none
		cs.newer[key] = newer
	}
	return newer
}

// extend extends the calls of an identity. It reports whether there have been any.
func (cs *tunnelCallers) extend(id *Identity) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	newer := cs.newer[quota.Identity{Issuer: id.Issuer, Name: id.Name}]
	if newer != nil {
		newer.set(id.Expires)
	}
	return newer != nil
}

// any reports whether there is anything to extend.
func (cs *tunnelCallers) any() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.newer) > 0
}
