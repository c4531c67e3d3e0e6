package auth

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/internal/tries"
)

// failureShare is how many credentials an address may have looked at in vain. Many clients may
// share one, whose tokens all expire at the same time. An address can cost about 2 ms of a
// processor each second.
var failureShare = tries.Share{AtOnce: 100, Every: 50 * time.Millisecond}

const failureRetry = time.Second

// failures counts by address the tokens that were read or verified in vain. So a client that
// sends one bad token after another can't buy verifications without end. The zero value is ready.
type failures struct {
	tries      tries.Tries
	unverified atomic.Uint64 // tokens that were refused without a look
}

// over reports whether an address has failed too often.
func (f *failures) over(of netip.Prefix, now time.Time) bool { return f.tries.Wait(of, now) > 0 }

func (f *failures) count(of netip.Prefix, now time.Time) { f.tries.Failed(of, failureShare, now) }
