package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Defaults and bounds of Options.
const (
	DefaultTimeout    = rules.CheckTimeout
	MaxTimeout        = rules.MaxCheckTimeout
	DefaultConcurrent = rules.CheckConcurrent
	MaxConcurrent     = rules.MaxCheckConcurrent
	DefaultBytes      = rules.CheckBytes
	MaxBytes          = rules.MaxCheckBytes
	MaxTTL            = rules.MaxCheckTTL
	DefaultEntries    = rules.CheckEntries
	MaxEntries        = rules.MaxCheckEntries

	maxRefusedTTL = 5 * time.Second
)

// Options are what both forms have in common.
type Options struct {
	// Timeout is for a question with everything about it: the wait for a slot, the
	// connection, the answer. If zero, DefaultTimeout is used.
	Timeout time.Duration

	// FailOpen lets calls pass that nobody judged: when the service doesn't answer in time,
	// can't be reached, or says that it can't judge. It doesn't cover unusable answers.
	FailOpen bool

	// Concurrent bounds the questions at the service. Further ones wait until Timeout. If
	// zero, DefaultConcurrent is used.
	Concurrent int

	// Bytes bounds a question. Larger ones are refused unasked, also with FailOpen, since
	// clients make them so. If zero, DefaultBytes is used.
	Bytes int

	// Names are the metadata that the service gets. If nil, it gets all in the gRPC form,
	// and authorization and cookie in the HTTP form.
	Names []string

	// Reserved and ReservedDown report whether a lower-case name is reserved on the way to
	// the backend and to the client: no answer may change it. Both are needed. Reserved
	// should let authorization and cookie pass, so that a service can remove them.
	Reserved, ReservedDown func(name string) bool

	// Own are the names of metadata that only the service may set, such as the user's name.
	// They are removed from every call before the answer changes it, also from calls that
	// FailOpen lets pass: no client can set them. The HTTP form adds HTTP.AnswerNames.
	Own []string

	// Secrets are names of metadata that may hold a credential, besides those whose name tells.
	Secrets []string

	// Cache keeps answers. Its zero value keeps none.
	Cache Cache
}

// Cache says how long answers are kept. The service of a cache gets only what makes the
// key: of the metadata Options.Names, which must be set for the gRPC form. It does get the
// call's id and time, the client's port and the local address, and its answers must not depend on
// them.
type Cache struct {
	// TTL is how long the answer for a call holds for others with the same key, at most
	// MaxTTL. Refusals hold at most five seconds. If zero, there is no cache.
	TTL time.Duration

	// Entries bounds the answers. If zero, DefaultEntries is used. All together hold at
	// most 4 MiB.
	Entries int
}

// checked returns the options with their defaults, or what is wrong with them.
func (o Options) checked() (Options, error) {
	if o.Reserved == nil || o.ReservedDown == nil {
		return o, errors.New("reserved names aren't known")
	}
	for _, b := range []struct {
		what          string
		value         *int
		fallback, max int
	}{
		{"concurrent questions", &o.Concurrent, DefaultConcurrent, MaxConcurrent},
		{"bytes of a question", &o.Bytes, DefaultBytes, MaxBytes},
		{"entries of the cache", &o.Cache.Entries, DefaultEntries, MaxEntries},
	} {
		*b.value = cmp.Or(*b.value, b.fallback)
		if *b.value < 0 || *b.value > b.max {
			return o, fmt.Errorf("%s: %d isn't in 1 to %d", b.what, *b.value, b.max)
		}
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	if o.Timeout < 0 || o.Timeout > MaxTimeout {
		return o, fmt.Errorf("time-out: %v isn't in 0 to %v", o.Timeout, MaxTimeout)
	}
	if o.Cache.TTL < 0 || o.Cache.TTL > MaxTTL {
		return o, fmt.Errorf("cache: a TTL of %v isn't in 0 to %v", o.Cache.TTL, MaxTTL)
	}
	for _, name := range o.Own {
		if !codec.ValidName(name) || o.Reserved(name) {
			return o, fmt.Errorf("metadata that only the service may set: %.64q is reserved or can't name metadata: take it off the list", name)
		}
	}
	for _, name := range o.Names {
		if !codec.ValidName(name) {
			return o, fmt.Errorf("metadata for the service: %.64q can't name metadata: use -, _, ., digits and lower-case letters", name)
		}
	}
	o.Names = slices.Clone(o.Names)
	slices.Sort(o.Names)
	o.Names = slices.Compact(o.Names)
	return o, nil
}
