package main

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

// A keyring has all certificates: those of the listeners, and those for the
// backends. Its methods are safe for concurrent use.
type keyring struct {
	config atomic.Pointer[config.Loaded] // that runs
	log    *slog.Logger
	obs    certificateObserver // nil: none
	out    io.Writer           // for instructions how to trust a new CA
	ends   time.Time           // by when close must have ended; zero: culvert doesn't drain
	look   bool                // for validate: create no CA, and order no certificates

	mu          sync.Mutex
	providers   []sharedProvider
	clients     backendClients
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
}

// openKeyring reads the files for the backends. The method provider reads the
// files of a listener.
func openKeyring(c *config.Loaded, log *slog.Logger, obs certificateObserver, out io.Writer) (*keyring, error) {
	k := &keyring{log: log, obs: obs, out: out, told: map[string]toldCertificate{}}
	k.config.Store(c.Compact())
	clients, err := k.openClients(c, nil)
	if err != nil {
		return nil, err
	}
	k.clients = clients
	return k, nil
}

// listener returns the Provider of a listener of c, or nil for plaintext.
func (k *keyring) listener(c *config.Loaded, i int) (*proxytls.Provider, error) {
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
		o.Fallback = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errOnlyLooks }
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
	return k.provider(c, o, fallback)
}

var errOnlyLooks = errors.New("nobody is served")

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
// goroutine at a time calls provider. The files are read without the lock, because
// readiness checks and requests take it, and a file system may not respond.
func (k *keyring) provider(c *config.Loaded, o proxytls.Options, fallback string) (*proxytls.Provider, error) {
	wants := fmt.Sprint(o.Certificates, o.ClientCA, o.ClientAuth, o.CRLs, o.MinVersion, fallback)
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
	k.providers = append(k.providers, sharedProvider{wants, p})
	return p, nil
}

// shared returns the open Provider with the options, or nil.
func (k *keyring) shared(wants string) *proxytls.Provider {
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
func (k *keyring) selfSigned() (*proxytls.Development, error) {
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

// serves reports whether there is a certificate for the host, or will be one.
func (k *keyring) serves(host string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.providers, func(s sharedProvider) bool { return s.provider.Serves(host) }) ||
		k.acme != nil && k.acme.Serves(host) || k.development != nil && k.development.Serves(host)
}

var errRelativeHome = errors.New("$HOME is a relative path")

// developmentFolder returns the directory of the development CA. It is the
// same wherever culvert starts. According to the XDG base directory
// specification, a relative path is invalid.
func developmentFolder() (string, error) {
	folder, err := os.UserConfigDir()
	if err == nil && !filepath.IsAbs(folder) {
		err = errRelativeHome
	}
	if err != nil {
		return "", fmt.Errorf("%w: culvert has no directory for the development CA: set HOME or XDG_CONFIG_HOME to an absolute path", err)
	}
	return filepath.Join(folder, "culvert", "development"), nil
}

// reload reloads all files. If a file fails, culvert continues with the old
// certificate. It reports whether there are any.
func (k *keyring) reload() (anything bool) {
	k.mu.Lock()
	providers, clients, acme := slices.Clone(k.providers), maps.Clone(k.clients), k.acme
	k.mu.Unlock()
	var errs []error
	for _, s := range providers {
		errs = append(errs, s.provider.Reload())
	}
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		errs = append(errs, placedAt(clients[name].current.Load(), clients[name].Reload()))
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

// problems returns a line for each current problem.
func (k *keyring) problems() []string {
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
	if k.acme != nil {
		errs = append(errs, k.acme.Problems()...)
	}
	var lines []string
	for _, err := range errs {
		lines = append(lines, k.placed(err).Error())
	}
	return lines
}

// closingPatience limits how long close waits, because a file system that doesn't
// respond must not keep culvert from ending.
const closingPatience = 5 * time.Second

// close stops the watching of files and the ordering of certificates. It first waits
// for others that open and close certificates, such as a reload. If a read of a file
// hangs, its goroutine remains until the process ends.
func (k *keyring) close(others ...func()) {
	closed := make(chan struct{})
	go func() { // received below, or the process ends
		k.closeAfter(others)
		close(closed)
	}()
	patience := patienceUntil(k.ends, closingPatience)
	select {
	case <-closed:
	case <-time.After(patience):
		k.log.Warn("ended without waiting for certificates, descriptors or a configuration that are being read or written", "patience", patience.String(), "hint", "a file system with the configuration or with files of tls, backend.tls, backend.descriptors or tls.acme.storage doesn't respond")
	}
}

// closeAfter closes all at the same time, so that one that hangs delays no other. The
// Providers and clients wait for the others, which may replace them until then.
func (k *keyring) closeAfter(others []func()) {
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
}
