package proxytls

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// storageProblem is the key of problems with the storage, which are otherwise kept
// by name. No name is empty.
const storageProblem = ""

// makeStorage makes the folder, and returns an error if it can't be written to.
func (o *ACMEOptions) makeStorage() error {
	if err := os.MkdirAll(o.Storage, 0o700); err != nil {
		return o.storageError(cause(err))
	}
	f, err := os.CreateTemp(o.Storage, ".culvert-*")
	if err != nil {
		return o.storageError(cause(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// hasCertificate reports whether the storage has a certificate for a domain that is
// valid now. Serving it is better than not starting.
func (a *ACME) hasCertificate() bool {
	return slices.ContainsFunc(a.opts.Domains, func(name string) bool {
		c, err := a.load(context.Background(), name)
		return err == nil && time.Now().Before(c.leaf.NotAfter)
	})
}

// storageLog is the log of certmagic's storage: the log of the last ACME that was
// made.
var storageLog struct {
	route sync.Once
	to    atomic.Pointer[slog.Handler]
}

// routeStorageLog sends the log of certmagic's storage to h. The storage has no
// option for a logger: it uses the one that certmagic.Default begins with, which
// writes text to standard error.
func routeStorageLog(h slog.Handler) {
	storageLog.to.Store(&h)
	storageLog.route.Do(func() { *certmagic.Default.Logger = *newZap(func() slog.Handler { return *storageLog.to.Load() }) })
}
