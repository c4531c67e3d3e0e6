package upstream

import (
	"cmp"
	"log/slog"
	"reflect"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/pool"
	"github.com/culvert-grpc/culvert/bridge/internal/reflection"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// Same reports whether two backends have the same settings. It compares TLS, TLSSource
// and Descriptors by identity, of Dial and Waiting only whether they are nil, and Logger not at all.
func Same(b, other report.Backend) bool {
	if b.TLS != other.TLS || !sameSource(b.TLSSource, other.TLSSource) || !sameSource(b.Descriptors, other.Descriptors) || (b.Dial == nil) != (other.Dial == nil) || (b.Waiting == nil) != (other.Waiting == nil) {
		return false
	}
	b.TLS, b.TLSSource, b.Descriptors, b.Dial, b.Waiting, b.Logger = nil, nil, nil, nil, nil, nil
	other.TLS, other.TLSSource, other.Descriptors, other.Dial, other.Waiting, other.Logger = nil, nil, nil, nil, nil, nil
	return reflect.DeepEqual(b, other)
}

func sameSource(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// An Upstream is a backend and the connections to it.
type Upstream struct {
	*reflection.Book // of the backend's methods

	pool      *pool.Pool
	prefix    string // of the paths of calls
	panics    *report.Panics
	budget    retryBudget
	sentAgain struct{ byPolicy, elsewhere, withheld atomic.Int64 } // calls; withheld ones weren't, for want of budget
	limit     report.SizeLimit                                     // of a message
	options   callOptions
	holders   holders // while it is in a Set
}

// New begins to connect to the backend. messages limits each message of an answer.
// headerBytes is the limit of a block of metadata, which the caller must check. panics may
// be nil.
func New(b report.Backend, messages report.SizeLimit, headerBytes int, account *memory.Account, panics *report.Panics) (*Upstream, error) {
	b.Logger = cmp.Or(b.Logger, slog.New(slog.DiscardHandler))
	options := newCallOptions(messages)
	p, err := pool.New(b, pool.Options{HeaderBytes: headerBytes, Streams: options.plain, Account: account, Panics: panics})
	if err != nil {
		return nil, err
	}
	u := &Upstream{pool: p, prefix: b.PathPrefix, panics: panics, limit: messages, options: options, holders: holders{none: make(chan struct{})}}
	u.Book = reflection.NewBook(p, b.Descriptors, messages.Bytes, account, b.Logger, panics)
	u.holders.n.Store(1) // for the Set that may take it
	return u, nil
}

// Close ends the streams and closes the connections.
func (u *Upstream) Close() error {
	wait := u.Book.Close()
	err := u.pool.Close()
	wait()
	return err
}
