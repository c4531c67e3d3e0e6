package ratelimit

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// Defaults and bounds of Options.
const (
	DefaultTimeout    = rules.RateLimitTimeout
	MaxTimeout        = rules.MaxRateLimitTimeout
	DefaultConcurrent = 256
	MaxConcurrent     = 10_000

	// Together these bound a question to about 100 KiB.
	MaxDescriptors = 16
	MaxEntries     = 16  // of a descriptor
	MaxValueBytes  = 256 // of a key, a value and the domain
)

// Options say which service is asked what.
type Options struct {
	// Target is host:port, or another target that grpc-go understands, such as
	// unix:///run/ratelimit.sock. Questions go to all addresses of a name by turns.
	Target string

	// TLS is for the connection, and nil for plaintext.
	TLS *tls.Config

	// Domain names the part of the service's configuration that the descriptors are in.
	Domain string

	// Descriptors are what a call counts for, each of them by itself. A descriptor is left
	// out of a question if the call lacks one of its values. A call without descriptors
	// passes, and the service isn't asked.
	Descriptors []Descriptor

	// Timeout is for a question with everything about it: the wait for a slot, the
	// connection, the answer. If zero, DefaultTimeout is used.
	Timeout time.Duration

	// FailClosed refuses calls for which the service gave no usable answer. By default they
	// pass: package comment.
	FailClosed bool

	// Concurrent bounds the questions at the service. Further ones wait until Timeout. If
	// zero, DefaultConcurrent is used.
	Concurrent int

	// ReservedDown reports whether a lower-case name is reserved on the way to the client. It
	// is needed. A header of the service with such a name is left out.
	ReservedDown func(name string) bool
}

// checked returns the options with their defaults, or what is wrong with them.
func (o Options) checked() (Options, error) {
	if o.Target == "" {
		return o, errors.New("the target is missing: give the rate limit service's host:port")
	}
	if o.ReservedDown == nil {
		return o, errors.New("reserved names aren't known")
	}
	if err := validText("domain", o.Domain); err != nil {
		return o, err
	}
	if n := len(o.Descriptors); n == 0 || n > MaxDescriptors {
		return o, fmt.Errorf("%d descriptors: give 1 to %d", n, MaxDescriptors)
	}
	for i, d := range o.Descriptors {
		if err := d.check(); err != nil {
			return o, fmt.Errorf("descriptor %d: %w", i+1, err)
		}
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	if o.Timeout < 0 || o.Timeout > MaxTimeout {
		return o, fmt.Errorf("time-out: %v isn't in 0 to %v", o.Timeout, MaxTimeout)
	}
	o.Concurrent = cmp.Or(o.Concurrent, DefaultConcurrent)
	if o.Concurrent < 0 || o.Concurrent > MaxConcurrent {
		return o, fmt.Errorf("concurrent questions: %d isn't in 1 to %d", o.Concurrent, MaxConcurrent)
	}
	return o, nil
}
