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

// An ACME has certificates of a CA that gives them by ACME (RFC 8555), and
// renews them. certmagic makes keys and orders, writes what it gets and holds
// the locks by which replicas don't fetch the same twice; when to fetch, and
// what is said about it, is decided here. Its methods may be called
// concurrently, Start once.
type ACME struct {
	opts       ACMEOptions
	secrets    redactor
	storage    certmagic.Storage
	challenges *challenges
	issuer     *issuer
	magic      *certmagic.Config
	unwritable error            // why NewACME couldn't write to the storage
	cache      *certmagic.Cache // certmagic wants one; nothing is in it
	orders     chan struct{}    // has a place for each order of Domains under way
	demand     demand

	// Its life is that of everything that Start starts. It is kept, since
	// names on demand are started by handshakes, which they outlive.
	ctx     context.Context
	cancel  context.CancelCauseFunc
	running sync.WaitGroup

	telling sync.Mutex // held while somebody is told

	mu       sync.Mutex
	closed   bool
	names    map[string]*managed
	problems map[string]error // by name
}

// How many orders are under way at one time, and how long each may take. Those
// on demand have places of their own: clients choose how many there are, and
// Domains must not wait for them.
const (
	maxOrders       = 4
	maxDemandOrders = 2
	orderPatience   = 10 * time.Minute // DNS takes its time to be seen
)

var (
	errNotManaged = errors.New("tls: culvert manages no certificate for the client's SNI name")
	errClosed     = errors.New("tls: the server is shutting down")
)

// NewACME checks the options. Nobody is asked for anything before Start. The
// error has a line, a KeyError, for everything that is wrong.
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
	a.useCertmagic(newZap(log.Handler()))
	return a, nil
}

// useCertmagic makes what orders and stores. Its own maintenance never wakes:
// it tries again on a plan of its own, and has no end that one could wait for.
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

// Start takes what is in the storage into use, and begins to fetch what isn't.
// It waits for nobody. When ctx ends no more is fetched; Close waits for that.
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

// Reload reads the file of who signed the directory's certificate, and has what
// has failed tried again now, at once and with a word on how that went: whoever
// asks for it has mended something. If the error isn't nil that file could not
// be read, and the CA is known as before.
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
		default: // it was told already
		}
	}
	return err
}

// Close ends what Start has begun and waits for it. Certificates can be had
// from then on as they are.
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

// NextProtos are what ALPN has to offer besides the clients' own, so that the
// CA can ask for TLS-ALPN-01.
func (a *ACME) NextProtos() []string {
	if slices.Contains(a.opts.Challenges, TLSALPN01) {
		return []string{acmez.ACMETLS1Protocol}
	}
	return nil
}

// GetCertificate returns the certificate for the name that a client asks for:
// of Domains, or, having fetched it, of OnDemand. A client that asks for none
// gets that of the first domain. It is also how a CA is answered that asks for
// TLS-ALPN-01.
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

// find returns who keeps a name, or the wildcard above it; nil for nobody.
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

// Serves reports whether there is to be a certificate for a host.
func (a *ACME) Serves(host string) bool {
	_, above, _ := strings.Cut(host, ".")
	return a.serves(host) || slices.Contains(a.opts.Domains, "*."+above)
}

// serves reports whether a CA may ask about a name.
func (a *ACME) serves(name string) bool {
	return slices.Contains(a.opts.Domains, name) || a.mayDemand(name)
}

// HTTPHandler answers the CA that asks for HTTP-01, and leaves everything else
// to next.
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

// Problems says what is wrong now, by domain. What clients demand isn't in it:
// they could make a list of any length.
func (a *ACME) Problems() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(a.problems)) {
		errs = append(errs, a.problems[name])
	}
	return errs
}

func (a *ACME) tellCertificate(leaf *x509.Certificate) {
	if a.opts.Certificate == nil {
		return
	}
	a.telling.Lock()
	defer a.telling.Unlock()
	a.opts.Certificate(factOf(a.opts.ConfigKey, "", leaf))
}

// tellProblem says what is wrong with a name, nil that nothing is any more.
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
