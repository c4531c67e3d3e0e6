package auth

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/internal/tries"
)

// failureShare is how many credentials an address may have looked at in vain. Many clients may
// share one, whose tokens all expire at the same time. An address can cost about 20 ms of a
// processor each second, and 20 questions to a service.
var failureShare = tries.Share{AtOnce: 100, Every: 50 * time.Millisecond}

const failureRetry = time.Second

// failures counts by address the tokens that were read in vain, and the questions to a service.
// So a client that sends one bad credential after another can't buy these without end. An
// unknown API key doesn't count: to find that out takes a hash. The zero value is ready.
type failures struct {
	tries      tries.Tries
	unverified atomic.Uint64 // tokens that were refused without a look
}

// over reports whether an address has failed too often.
func (f *failures) over(of netip.Prefix) bool { return f.tries.Wait(of, time.Now()) > 0 }

func (f *failures) count(of netip.Prefix) { f.tries.Failed(of, failureShare, time.Now()) }
