package main

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// A keyring has all certificates: those that clients are shown, on every
// listener, and the one for the backend. Its methods may be called
// concurrently.
type keyring struct {
	config *config.Loaded
	log    *slog.Logger
	obs    certificateObserver // nil: none
	out    io.Writer           // for people: how to trust a new authority
	look   bool                // of validate: no authority is made, no CA is asked

	mu          sync.Mutex
	providers   []sharedProvider
	client      *proxytls.Client      // nil: plaintext to the backend
	development *proxytls.Development // nil: not asked for yet
	acme        *proxytls.ACME        // nil: nothing is fetched

	reloading sync.WaitGroup

	telling sync.Mutex
	told    map[string]toldCertificate // by file
}

// A sharedProvider serves every listener that wants the same.
type sharedProvider struct {
	wants    string
	provider *proxytls.Provider
}

// A certificateObserver is told of each certificate that is loaded, and again when
// its end is near and when it has come.
type certificateObserver interface {
	Certificate(c report.CertificateInfo)
}

// openKeyring reads what is needed towards the backend; provider reads what a
// listener needs.

func openKeyring(c *config.Loaded, log *slog.Logger, obs certificateObserver, out io.Writer) (*keyring, error) {
	k := &keyring{config: c, log: log, obs: obs, out: out, told: map[string]toldCertificate{}}
	if t := c.Backend.TLS; t.Enabled {
		var err error
		k.client, err = proxytls.NewClient(proxytls.ClientOptions{
			CA: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName, ConfigKey: "backend.tls",
			Certificate: k.certificate, Problem: k.problem, Mended: k.mended,
		})
		if err != nil {
			return nil, k.placed(err)
		}
	}
	return k, nil
}

// backend is how to connect to the backend; nil where it speaks plaintext.
func (k *keyring) backend() func() *tls.Config {
	if k.client == nil {
		return nil
	}
	return k.client.Config
}

// listener returns what one of listen is opened with, nil where it speaks
// plaintext.
func (k *keyring) listener(i int) (*proxytls.Provider, error) {
	if !k.config.Listen[i].TLS.Enabled {
		return nil, nil //nolint:nilnil // nil is plaintext
	}
	t, at := k.config.ListenerTLS(i), config.Entry("listen", i)+".tls"
	o := proxytls.Options{
		ConfigKey:  k.sectionOf(at, "client_ca"),
		ClientCA:   t.ClientCA,
		ClientAuth: proxytls.ClientAuth(t.ClientAuth),
		CRLs:       t.CRLs,
		MinVersion: tlsVersion(t.MinVersion),
	}
	if t.Cert != "" {
		o.Certificates = append(o.Certificates, proxytls.Pair{Cert: t.Cert, Key: t.Key, ConfigKey: k.sectionOf(at, "cert")})
	}
	for i, c := range t.Certificates {
		o.Certificates = append(o.Certificates, proxytls.Pair{
			Cert: c.Cert, Key: c.Key, ClientCA: c.ClientCA, ClientAuth: proxytls.ClientAuth(c.ClientAuth), ConfigKey: k.sectionOf(config.Entry(at+".certificates", i), "cert"),
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
	return k.provider(o, fallback)
}

var errOnlyLooks = errors.New("nobody is served")

// sectionOf returns where a key of a listener's section stands: there, or in
// the section of the file that it is inherited from.
func (k *keyring) sectionOf(section, key string) string {
	return strings.TrimSuffix(k.config.Source(section+"."+key), "."+key)
}

func tlsVersion(text string) uint16 {
	if text == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// provider returns the Provider for the options, which it may have already.
// Functions can't be compared: fallback says whose Fallback is.
func (k *keyring) provider(o proxytls.Options, fallback string) (*proxytls.Provider, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wants := fmt.Sprint(o.Certificates, o.ClientCA, o.ClientAuth, o.CRLs, o.MinVersion, fallback)
	for _, s := range k.providers {
		if s.wants == wants {
			return s.provider, nil
		}
	}
	o.Certificate, o.Problem, o.Mended = k.certificate, k.problem, k.mended
	p, err := proxytls.New(o)
	if err != nil {
		return nil, k.placed(err)
	}
	k.providers = append(k.providers, sharedProvider{wants, p})
	return p, nil
}

// selfSigned opens the authority of this machine, or makes it, and then says
// how to trust it.
func (k *keyring) selfSigned() (*proxytls.Development, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.development != nil {
		return k.development, nil
	}
	folder, err := developmentFolder()
	if err != nil {
		return nil, k.config.Errorf("tls.self_signed", "%w", err)
	}
	d, err := proxytls.NewDevelopment(folder, k.config.TLS.SelfSignedNames)
	if err != nil {
		return nil, k.config.Errorf("tls.self_signed", "%w", err)
	}
	k.log.Info("created a development certificate: trust its CA on this machine only", "ca", d.CA, "names", d.Names())
	if d.Made {
		fmt.Fprintf(k.out, "\n%s\n", d.HowToTrust())
	}
	k.development = d
	return d, nil
}

// serves reports whether there is a certificate for a host, or will be.
func (k *keyring) serves(host string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.providers, func(s sharedProvider) bool { return s.provider.Serves(host) }) ||
		k.acme != nil && k.acme.Serves(host) || k.development != nil && k.development.Serves(host)
}

var errRelativeHome = errors.New("$HOME is a relative path")

// developmentFolder is where the authority of this machine is kept: one place,
// wherever culvert is started. The XDG base directory specification calls a
// relative path invalid.
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

// startReload loads all files now and then calls done, in a goroutine that close
// waits for: a drive that doesn't answer must not keep culvert from heeding
// signals.
func (k *keyring) startReload(done func()) {
	k.reloading.Go(func() {
		k.reload()
		done()
	})
}

// reload loads all files now. What can't be loaded stays as it was.
func (k *keyring) reload() {
	k.mu.Lock()
	providers, client, acme := slices.Clone(k.providers), k.client, k.acme
	k.mu.Unlock()
	var errs []error
	for _, s := range providers {
		errs = append(errs, s.provider.Reload())
	}
	if client != nil {
		errs = append(errs, client.Reload())
	}
	if acme != nil {
		errs = append(errs, acme.Reload())
	}
	switch err := k.placed(errors.Join(errs...)); {
	case len(errs) == 0:
		k.log.Warn("ignored: restart to apply a changed configuration", "signal", "hangup")
	case err != nil:
		k.log.Warn("certificates not reloaded: culvert continues with the old ones", "cause", err.Error())
	default:
		k.log.Info("certificates reloaded: restart culvert to apply other changes of the configuration")
	}
}

// problems has a line for everything that is wrong now.
func (k *keyring) problems() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, s := range k.providers {
		errs = append(errs, s.provider.Problems()...)
	}
	if k.client != nil {
		errs = append(errs, k.client.Problems()...)
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

// closingPatience is how long close waits: a drive that doesn't answer must not
// keep culvert from ending either.
const closingPatience = 5 * time.Second

// close ends the looking for changes and the fetching. Who hangs in a look is
// left to the end of the process.
func (k *keyring) close() {
	k.mu.Lock()
	waits := []func(){k.reloading.Wait}
	for _, s := range k.providers {
		waits = append(waits, s.provider.Close)
	}
	if k.client != nil {
		waits = append(waits, k.client.Close)
	}
	if k.acme != nil {
		waits = append(waits, k.acme.Close)
	}
	k.mu.Unlock()
	var closing sync.WaitGroup // at once: one that hangs keeps no other from its end
	for _, wait := range waits {
		closing.Go(wait)
	}
	closed := make(chan struct{})
	go func() { // received below, or the process ends
		closing.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closingPatience):
		k.log.Warn("ended without waiting for certificates that are being read or written", "patience", closingPatience.String(), "hint", "a drive with files of tls, backend.tls or tls.acme.storage doesn't respond")
	}
}

// A toldCertificate is what was told of a file.
type toldCertificate struct {
	fingerprint     [sha256.Size]byte
	ending, expired bool
}

// certificate tells of each file once, also where several listeners use it.
// One that was fetched is told once anyway.
func (k *keyring) certificate(c proxytls.Certificate) {
	now := time.Now()
	state := toldCertificate{c.Fingerprint, c.Ending(now), c.Expired(now)}
	var before toldCertificate
	was := false
	if c.File != "" {
		k.telling.Lock()
		before, was = k.told[c.File]
		k.told[c.File] = state
		k.telling.Unlock()
	}
	if k.obs != nil && (!was || before != state) {
		k.obs.Certificate(report.CertificateInfo{File: c.File, Names: c.Names, NotAfter: c.NotAfter, Ending: state.ending})
	}
}

func (k *keyring) problem(err error) {
	k.log.Warn("something is wrong with a certificate", "problem", k.placed(err).Error())
}

func (k *keyring) mended(err error) {
	k.log.Info("solved: something was wrong with a certificate", "problem", k.placed(err).Error())
}

// placed puts the places of keys, file and line or flag, before errors about
// them.
func (k *keyring) placed(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, k.placed(e))
		}
		return errors.Join(errs...)
	}
	var about *proxytls.KeyError
	if errors.As(err, &about) {
		return k.config.Errorf(about.Key, "%w", about.Err)
	}
	return err
}
