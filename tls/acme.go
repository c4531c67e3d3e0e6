package proxytls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// An ACME obtains certificates from a CA by ACME (RFC 8555), and renews them.
// certmagic makes keys and orders, stores the certificates, and holds the locks
// that keep replicas from ordering the same twice. ACME decides when to order, and
// how to report it. Its methods may be called concurrently, Start once.
type ACME struct {
	opts       ACMEOptions
	secrets    redactor
	storage    certmagic.Storage
	challenges *challenges
	issuer     *issuer
	magic      *certmagic.Config
	unwritable error            // why NewACME couldn't write to the storage
	cache      *certmagic.Cache // certmagic needs one; it stays empty
	orders     chan struct{}    // has a place for each running order of Domains
	demand     demand

	// The context of everything that Start starts. It is kept, since handshakes
	// start names on demand, which outlive them.
	ctx     context.Context
	cancel  context.CancelCauseFunc
	running sync.WaitGroup

	telling sync.Mutex // held during a report

	mu       sync.Mutex
	closed   bool
	names    map[string]*managed
	problems map[string]error // by name
}

// How many orders may run at one time, and how long each may take. Orders on demand
// have places of their own: clients choose how many there are, and Domains must not
// wait for them.
const (
	maxOrders       = 4
	maxDemandOrders = 2
	orderPatience   = 10 * time.Minute // DNS takes its time to be seen
)

var (
	errNotManaged = errors.New("tls: culvert manages no certificate for the client's SNI name")
	errClosed     = errors.New("tls: the server is shutting down")
)

// NewACME checks the options. It asks nobody for anything; Start does. The error
// has a line, a KeyError, for each fault.
func NewACME(o ACMEOptions) (*ACME, error) {
	o.Domains, o.OnDemand = slices.Clone(o.Domains), slices.Clone(o.OnDemand)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	secrets := o.redactor()
	log := slog.New(libraryLog{o.Log.Handler(), secrets})
	a := &ACME{
		opts:     o,
		secrets:  secrets,
		storage:  &certmagic.FileStorage{Path: o.storageFolder()},
		orders:   make(chan struct{}, maxOrders),
		demand:   demand{budget: rate.NewLimiter(demandRate, demandBurst), orders: make(chan struct{}, maxDemandOrders)},
		names:    map[string]*managed{},
		problems: map[string]error{},
	}
	a.challenges = &challenges{
		storage: a.storage,
		folder:  path.Join("acme", certmagic.StorageKeys.Safe(issuerName(o.Directory))),
		open:    map[string]*challenge{},
	}
	solvers, err := o.solvers(a.challenges, log)
	if err != nil {
		return nil, err
	}
	a.issuer = &issuer{
		directory: o.Directory,
		email:     o.Email,
		log:       log,
		storage:   a.storage,
		solvers:   solvers,
	}
	a.issuer.trust(roots)
	if o.EABKeyID != "" {
		a.issuer.eab = &acme.EAB{KeyID: o.EABKeyID, MACKey: o.EABHMACKey}
	}
	if err := o.makeStorage(); err != nil {
		if !a.hasCertificate() {
			return nil, err
		}
		a.unwritable = err
	}
	routeStorageLog(log.Handler())
	a.useCertmagic(newZap(log.Handler))
	return a, nil
}

// useCertmagic makes the parts that order and store. certmagic's own maintenance
// never runs: it retries on a schedule of its own, and nothing can wait for its
// end.
func (a *ACME) useCertmagic(log *zap.Logger) {
	const never = 100 * 365 * 24 * time.Hour
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil },
		RenewCheckInterval: never,
		OCSPCheckInterval:  never,
		Logger:             log,
	})
	a.magic = certmagic.New(a.cache, certmagic.Config{
		Issuers:    []certmagic.Issuer{a.issuer},
		Storage:    a.storage,
		OCSP:       certmagic.OCSPConfig{DisableStapling: true},
		DisableARI: true, // managed asks the CA itself
		Logger:     log,
	})
}

// Start takes the certificates in the storage into use, and begins to order the
// missing ones. It doesn't wait for them. When ctx ends it orders no more; Close
// waits for that.
func (a *ACME) Start(ctx context.Context) {
	names := map[string]*managed{}
	for _, name := range a.opts.Domains {
		m := newManaged(name, false)
		if c, err := a.load(ctx, name); err == nil {
			a.use(m, c)
		}
		names[name] = m
	}
	if a.unwritable != nil {
		a.tellProblem(storageProblem, a.unwritable)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	for _, m := range names {
		a.manage(m)
	}
}

// manage begins to keep a certificate. a.mu is held.
func (a *ACME) manage(m *managed) {
	a.names[m.name] = m
	a.running.Go(func() { a.keep(a.ctx, m) })
}

// Reload reads the file with the authorities of the directory's certificate, and
// retries failed orders at once, with a report on the result: the operator who
// reloads has probably fixed something. If the error isn't nil, the file could not
// be read, and ACME still uses the authorities from before.
func (a *ACME) Reload() error {
	roots, err := a.opts.roots()
	if err == nil && roots != nil {
		a.issuer.trust(roots)
	}
	a.demand.forget()
	a.tellProblem(storageProblem, a.opts.makeStorage())
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.names {
		select {
		case m.wake <- struct{}{}:
		default: // woken already
		}
	}
	return err
}

// Close ends everything that Start has begun and waits for it. Afterwards
// certificates stay available as they are.
func (a *ACME) Close() {
	a.mu.Lock()
	again := a.closed
	a.closed = true
	if a.cancel != nil {
		a.cancel(errClosed)
	}
	a.mu.Unlock()
	if again {
		return
	}
	a.running.Wait()
	a.cache.Stop()
	a.issuer.http.Load().CloseIdleConnections()
}

// NextProtos returns the protocols that ALPN must offer besides the clients' own,
// so that the CA can ask for TLS-ALPN-01.
func (a *ACME) NextProtos() []string {
	if slices.Contains(a.opts.Challenges, TLSALPN01) {
		return []string{acmez.ACMETLS1Protocol}
	}
	return nil
}

// GetCertificate returns the certificate for the client's SNI: of Domains, or, once
// it is obtained, of OnDemand. A client without SNI gets the certificate of the
// first domain. GetCertificate also answers a CA that asks for TLS-ALPN-01.
func (a *ACME) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := normalName(hello.ServerName)
	if slices.Equal(hello.SupportedProtos, []string{acmez.ACMETLS1Protocol}) {
		if !a.serves(name) {
			return nil, errNotManaged
		}
		return a.challenges.certificate(hello.Context(), name)
	}
	m := a.find(name)
	if m == nil {
		var err error
		if m, err = a.fetchOnDemand(hello.Context(), name); err != nil {
			return nil, err
		}
	}
	m.used.Store(true)
	if c := m.inUse.Load(); c != nil {
		return c.certificate, nil
	}
	return nil, fmt.Errorf("tls: there is no certificate for %s yet (%s)", m.name, a.opts.ConfigKey)
}

// find returns the managed name for a name, or for the wildcard above it, or nil.
func (a *ACME) find(name string) *managed {
	if name == "" && len(a.opts.Domains) > 0 {
		name = a.opts.Domains[0]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if m := a.names[name]; m != nil {
		return m
	}
	if _, above, ok := strings.Cut(name, "."); ok {
		return a.names["*."+above]
	}
	return nil
}

// Serves reports whether ACME keeps, or will keep, a certificate for a host.
func (a *ACME) Serves(host string) bool {
	_, above, _ := strings.Cut(host, ".")
	return a.serves(host) || slices.Contains(a.opts.Domains, "*."+above)
}

// serves reports whether a CA may ask about a name.
func (a *ACME) serves(name string) bool {
	return slices.Contains(a.opts.Domains, name) || a.mayDemand(name)
}

// HTTPHandler answers a CA that asks for HTTP-01, and leaves everything else to
// next.
func (a *ACME) HTTPHandler(next http.Handler) http.Handler {
	if !slices.Contains(a.opts.Challenges, HTTP01) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, challengePath) && a.serves(normalName(r.Host)) && a.challenges.serveHTTP(w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Problems returns the current problems, by domain. It leaves out names on demand:
// clients could make a list of any length.
func (a *ACME) Problems() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.problems)) {
		errs = append(errs, a.problems[name])
	}
	return errs
}

func (a *ACME) tellCertificate(m *managed, leaf *x509.Certificate) {
	if a.opts.Certificate == nil {
		return
	}
	a.telling.Lock()
	defer a.telling.Unlock()
	c := factOf(a.opts.ConfigKey, "", leaf)
	c.OnDemand = m.onDemand
	a.opts.Certificate(c)
}

// tellProblem reports a problem with a name, or with nil that there is none any
// more.
func (a *ACME) tellProblem(name string, problem error) {
	a.mu.Lock()
	before := a.problems[name]
	if problem == nil {
		delete(a.problems, name)
	} else {
		a.problems[name] = problem
	}
	a.mu.Unlock()
	a.telling.Lock()
	defer a.telling.Unlock()
	switch {
	case problem != nil && a.opts.Problem != nil:
		a.opts.Problem(problem)
	case problem == nil && before != nil && a.opts.Mended != nil:
		a.opts.Mended(before)
	}
}
