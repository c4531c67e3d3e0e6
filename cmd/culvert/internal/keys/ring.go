// Package keys has the certificates of a program: those of its listeners, those for its
// backends, and those that a CA issues. It gives the bridge their TLS configurations.
package keys

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// A Ring has all certificates: those of the listeners, and those for the
// backends and for the receivers of OTLP. Its methods are safe for concurrent use.
type Ring struct {
	config atomic.Pointer[config.Loaded] // that runs
	log    *slog.Logger
	obs    Observer  // nil: none
	out    io.Writer // for instructions how to trust a new CA
	look   bool      // for Check: create no CA, and order no certificates

	listeners []*ListenerTLS // nil: plaintext; as many as at the start
	admin     *ListenerTLS   // of the admin address; nil: plaintext

	mu          sync.Mutex
	providers   []sharedProvider
	clients     backendClients
	receivers   *proxytls.Client      // for the receivers of OTLP; nil: none
	development *proxytls.Development // nil: not needed yet
	acme        *proxytls.ACME        // nil: no ACME

	telling sync.Mutex
	told    map[string]toldCertificate // by file
	late    *lateReports               // of the reload under way, or nil; only for its goroutine
}

// A sharedProvider serves all listeners with the same options.
type sharedProvider struct {
	wants    string
	provider *proxytls.Provider
	admin    bool // it is the admin address's, and serves no clients
}

// Open reads the files for the backends. Listeners reads those of the listeners.
func Open(c *config.Loaded, log *slog.Logger, obs Observer, out io.Writer) (*Ring, error) {
	k := &Ring{log: log, obs: obs, out: out, told: map[string]toldCertificate{}}
	k.config.Store(c.Compact())
	clients, err := k.openClients(c, nil)
	if err != nil {
		return nil, err
	}
	k.clients = clients
	return k, nil
}

// Check reads the certificates of a configuration as a program would that serves. It creates
// neither the CA of --tls-self-signed nor a directory of tls.acme. It returns what is wrong
// but doesn't keep the program from serving.
func Check(c *config.Loaded) (problems []string, err error) {
	k, err := Open(c, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		return nil, err
	}
	k.look = true
	defer k.Close(Patience)
	if c.TLS.ACME.Enabled() {
		if err := acmeOptions(c).Check(); err != nil {
			return nil, k.placed(err)
		}
	}
	_, err = k.Listeners(c)
	_, adminErr := k.Admin(c)
	if err := errors.Join(err, adminErr); err != nil {
		return nil, err
	}
	if _, err := k.Receivers(c); err != nil {
		return nil, err
	}
	return k.Problems(), nil
}

// Listeners reads the certificates of the listeners of c, and returns those of each: nil for
// plaintext.
func (k *Ring) Listeners(c *config.Loaded) ([]*ListenerTLS, error) {
	k.listeners = make([]*ListenerTLS, len(c.Listen))
	for i := range c.Listen {
		p, err := k.listener(c, i)
		if err != nil {
			return nil, err
		}
		if p != nil {
			k.listeners[i] = newListenerTLS(p)
		}
	}
	return k.listeners, nil
}

// listener returns the Provider of a listener of c, or nil for plaintext.
func (k *Ring) listener(c *config.Loaded, i int) (*proxytls.Provider, error) {
	if !c.Listen[i].TLS.Enabled {
		return nil, nil //nolint:nilnil // nil is plaintext
	}
	t, at := c.ListenerTLS(i), config.Entry("listen", i)+".tls"
	o := proxytls.Options{
		ConfigKey:  sectionOf(c, at, "client_ca"),
		ClientCA:   t.ClientCA,
		ClientAuth: proxytls.ClientAuth(t.ClientAuth),
		CRLs:       t.CRLs,
		MinVersion: tlsVersion(t.MinVersion),
	}
	if t.Cert != "" {
		o.Certificates = append(o.Certificates, proxytls.Pair{Cert: t.Cert, Key: t.Key, ConfigKey: sectionOf(c, at, "cert")})
	}
	for i, pair := range t.Certificates {
		o.Certificates = append(o.Certificates, proxytls.Pair{
			Cert: pair.Cert, Key: pair.Key, ClientCA: pair.ClientCA, ClientAuth: proxytls.ClientAuth(pair.ClientAuth), ConfigKey: sectionOf(c, config.Entry(at+".certificates", i), "cert"),
		})
	}
	fallback := ""
	switch {
	case k.look && (t.SelfSigned || t.ACME.Enabled()):
		o.Fallback = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("nobody is served") }
	case t.SelfSigned:
		d, err := k.selfSigned()
		if err != nil {
			return nil, err
		}
		o.Fallback, fallback = d.GetCertificate, "self_signed"
	case t.ACME.Enabled():
		if err := k.fetch(&o); err != nil {
			return nil, err
		}
		fallback = "acme"
	}
	return k.provider(c, o, fallback, false)
}

// sectionOf returns the section that sets a key of a listener: the listener's
// own, or the section of the file that it inherits from.
func sectionOf(c *config.Loaded, section, key string) string {
	return strings.TrimSuffix(c.Source(section+"."+key), "."+key)
}

func tlsVersion(text string) uint16 {
	if text == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// provider returns the Provider for the options, a shared one if possible.
// Functions aren't comparable, so fallback identifies the owner of Fallback. One
// goroutine at a time calls provider. That of the admin address isn't shared. The files are read without the lock, because
// readiness checks and requests take it, and a file system may not respond.
func (k *Ring) provider(c *config.Loaded, o proxytls.Options, fallback string, admin bool) (*proxytls.Provider, error) {
	wants := fmt.Sprint(admin, o.Certificates, o.ClientCA, o.ClientAuth, o.CRLs, o.MinVersion, fallback)
	if p := k.shared(wants); p != nil {
		return p, nil
	}
	o.Certificate, o.Problem, o.Mended = k.reporter(), k.problem, k.mended
	p, err := proxytls.New(o)
	if err != nil {
		return nil, placedIn(c, err, wholeName)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.providers = append(k.providers, sharedProvider{wants, p, admin})
	return p, nil
}

func (k *Ring) shared(wants string) *proxytls.Provider {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.providers {
		if s.wants == wants {
			return s.provider
		}
	}
	return nil
}

// selfSigned opens this machine's CA for development. If it creates the CA, it
// also prints how to trust it.
func (k *Ring) selfSigned() (*proxytls.Development, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.development != nil {
		return k.development, nil
	}
	folder, err := developmentFolder()
	if err != nil {
		return nil, k.config.Load().Errorf("tls.self_signed", "%w", err)
	}
	d, err := proxytls.NewDevelopment(folder, k.config.Load().TLS.SelfSignedNames)
	if err != nil {
		return nil, k.config.Load().Errorf("tls.self_signed", "%w", err)
	}
	k.log.Info("created a development certificate: trust its CA on this machine only", "ca", d.CA, "names", d.Names())
	if d.Made {
		fmt.Fprintf(k.out, "\n%s\n", d.HowToTrust())
	}
	k.development = d
	return d, nil
}

// Serves reports whether there is a certificate for the host, or will be one.
func (k *Ring) Serves(host string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.providers, func(s sharedProvider) bool { return !s.admin && s.provider.Serves(host) }) ||
		k.acme != nil && k.acme.Serves(host) || k.development != nil && k.development.Serves(host)
}

// developmentFolder returns the directory of the development CA. It is the
// same wherever culvert starts. According to the XDG base directory
// specification, a relative path is invalid.
func developmentFolder() (string, error) {
	folder, err := os.UserConfigDir()
	if err == nil && !filepath.IsAbs(folder) {
		err = errors.New("$HOME is a relative path")
	}
	if err != nil {
		return "", fmt.Errorf("%w: culvert has no directory for the development CA: set HOME or XDG_CONFIG_HOME to an absolute path", err)
	}
	return filepath.Join(folder, "culvert", "development"), nil
}

// Reload reloads all files. If a file fails, culvert continues with the old
// certificate. It reports whether there are any.
func (k *Ring) Reload() (anything bool) {
	k.mu.Lock()
	providers, clients, receivers, acme := slices.Clone(k.providers), maps.Clone(k.clients), k.receivers, k.acme
	k.mu.Unlock()
	var errs []error
	for _, s := range providers {
		errs = append(errs, s.provider.Reload())
	}
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		errs = append(errs, placedAt(clients[name].current.Load(), clients[name].Reload()))
	}
	if receivers != nil {
		errs = append(errs, receivers.Reload())
	}
	if acme != nil {
		errs = append(errs, acme.Reload())
	}
	switch err := k.placed(errors.Join(errs...)); {
	case len(errs) == 0:
	case err != nil:
		k.log.Warn("certificates not reloaded: culvert continues with the old ones", "cause", err.Error())
	default:
		k.log.Info("certificates reloaded")
	}
	return len(errs) > 0
}

// Problems returns a line for each current problem.
func (k *Ring) Problems() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, s := range k.providers {
		errs = append(errs, s.provider.Problems()...)
	}
	for _, name := range slices.Sorted(maps.Keys(k.clients)) {
		for _, err := range k.clients[name].Problems() {
			errs = append(errs, placedAt(k.clients[name].current.Load(), err))
		}
	}
	if k.receivers != nil {
		errs = append(errs, k.receivers.Problems()...)
	}
	if k.acme != nil {
		errs = append(errs, k.acme.Problems()...)
	}
	var lines []string
	for _, err := range errs {
		lines = append(lines, k.placed(err).Error())
	}
	return lines
}

// Patience is how long Close needs to wait at most, because a file system that doesn't
// respond must not keep culvert from ending.
const Patience = 5 * time.Second

// Close stops the watching of files and the ordering of certificates. It first waits
// for others that open and close certificates, such as a reload. If a read of a file
// hangs longer than the patience, its goroutine remains until the process ends.
func (k *Ring) Close(patience time.Duration, others ...func()) {
	closed := make(chan struct{})
	go func() { // received below, or the process ends
		k.closeAfter(others)
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		k.log.Warn("ended without waiting for certificates, descriptors or a configuration that are being read or written", "patience", patience.String(), "hint", "a file system with the configuration or with files of tls, backend.tls, backend.descriptors or tls.acme.storage doesn't respond")
	}
}

// closeAfter closes all at the same time, so that one that hangs delays no other. The
// Providers and clients wait for the others, which may replace them until then.
func (k *Ring) closeAfter(others []func()) {
	var closing sync.WaitGroup
	defer closing.Wait()
	k.mu.Lock()
	if k.acme != nil {
		closing.Go(k.acme.Close)
	}
	k.mu.Unlock()
	for _, wait := range others {
		wait()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.providers {
		closing.Go(s.provider.Close)
	}
	for _, client := range k.clients {
		closing.Go(client.Close)
	}
	if k.receivers != nil {
		closing.Go(k.receivers.Close)
	}
}
