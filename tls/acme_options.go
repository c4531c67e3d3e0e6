package proxytls

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// ACMEOptions are the options of an ACME.
type ACMEOptions struct {
	// Domains are the names for which ACME obtains certificates at the start, one
	// each. "*.example.com" needs DNS-01.
	Domains []string

	// OnDemand are patterns of names for which ACME obtains a certificate when a
	// client first asks for one: "shop.example.com", "*.example.com" (one label).
	// It never asks for any other name.
	OnDemand []string

	Email     string // where the CA sends mail; may be empty
	Directory string // URL of the CA's directory. If empty, Let's Encrypt's
	CARoot    string // file (PEM) with the authorities of Directory's own certificate. If empty, the system's
	Storage   string // folder of account, certificates, keys and locks; replicas share it

	// Challenges are the ways to prove that a name is ours: HTTP01, which needs
	// HTTPHandler on port 80, TLSALPN01, which needs GetCertificate on port 443,
	// and DNS01, which needs a DNSProvider. If empty, it is DNS01 with a provider,
	// and both others without.
	Challenges []string

	// EABKeyID and EABHMACKey (base64url) identify the account to the CA.
	EABKeyID, EABHMACKey string

	// DNSProvider is the name of a registered provider, and DNSSettings are its
	// settings. DNSResolvers ("192.0.2.53:53") are the name servers for finding the
	// zone and checking that a record is visible. If empty, ACME asks the system's
	// for the zone, and the zone's own for the record.
	DNSProvider  string
	DNSSettings  map[string]string
	DNSResolvers []string

	// ConfigKey is the configuration key of these options ("tls.acme"), for errors.
	ConfigKey string

	// Log receives the details of each order, all at debug level. It may be nil.
	Log *slog.Logger

	// Certificate is called for each certificate that is taken into use. Problem is
	// called when anything keeps one from being obtained or renewed, once for a
	// name until that changes, and Mended when nothing does any more. They aren't
	// called at the same time, nor after Close, and must not call the ACME. Each
	// may be nil.
	Certificate func(Certificate)
	Problem     func(error)
	Mended      func(error)
}

// The challenges.
const (
	HTTP01    = acme.ChallengeTypeHTTP01
	TLSALPN01 = acme.ChallengeTypeTLSALPN01
	DNS01     = acme.ChallengeTypeDNS01
)

func (o *ACMEOptions) errorf(key, format string, args ...any) error {
	return keyErrorf(o.ConfigKey+"."+key, format, args...)
}

// Check returns all faults that can be found without asking anybody or changing
// anything. The error has a line, a KeyError, for each.
func (o ACMEOptions) Check() error {
	o.Domains, o.OnDemand = slices.Clone(o.Domains), slices.Clone(o.OnDemand)
	if err := o.check(); err != nil {
		return err
	}
	_, err := o.roots()
	_, dnsErr := o.solvers(nil, slog.New(slog.DiscardHandler))
	return errors.Join(err, dnsErr)
}

// check returns all faults, and sets defaults. No text has a secret.
func (o *ACMEOptions) check() error {
	var errs []error
	add := func(faults ...error) { errs = append(errs, faults...) }
	if len(o.Domains) == 0 && len(o.OnDemand) == 0 {
		add(o.errorf("domains", "names no domain: list the domains that need a certificate"))
	}
	if len(o.Challenges) == 0 {
		o.Challenges = []string{TLSALPN01, HTTP01}
		if o.DNSProvider != "" {
			o.Challenges = []string{DNS01}
		}
	}
	for i, name := range o.Domains {
		o.Domains[i] = normalName(name)
		add(o.checkDomain("domains", o.Domains[i]))
	}
	for i, pattern := range o.OnDemand {
		o.OnDemand[i] = normalName(pattern)
		add(o.checkPattern(o.OnDemand[i]))
	}
	if o.Email != "" {
		if a, err := mail.ParseAddress(o.Email); err != nil || a.Address != o.Email {
			add(o.errorf("email", "%q is not an e-mail address: write it as in ops@example.com", o.Email))
		}
	}
	add(o.checkDirectory(), o.checkStorage(), o.checkEAB(), o.checkDNS())
	return errors.Join(errs...)
}

func (o *ACMEOptions) checkDomain(key, name string) error {
	below, wildcard := strings.CutPrefix(name, "*.")
	switch {
	case !nameForm().MatchString(below) || len(below) > 253:
		return o.errorf(key, "%q is not a host name: write it as in grpc.example.com", name)
	case wildcard && !slices.Contains(o.Challenges, DNS01):
		return o.errorf(key, "%s: a CA issues wildcard certificates by DNS-01 only: set %s.dns_provider, as docs/guides/acme.md#by-dns shows, or list the names", name, o.ConfigKey)
	}
	return nil
}

func (o *ACMEOptions) checkPattern(pattern string) error {
	if !nameForm().MatchString(strings.TrimPrefix(pattern, "*.")) {
		return o.errorf("on_demand", `%q would let any client choose the names to fetch: write names, or "*." before a domain of your own, as in *.example.com`, pattern)
	}
	return nil
}

func (o *ACMEOptions) checkDirectory() error {
	o.Directory = cmp.Or(o.Directory, certmagic.LetsEncryptProductionCA)
	u, err := url.Parse(o.Directory)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "":
		return o.errorf("directory", "is not an https URL: copy the CA's, as in https://ca.example.com/acme/acme/directory")
	case u.User != nil:
		return o.errorf("directory", "has a password in it: a CA identifies its clients by eab")
	}
	return nil
}

func (o *ACMEOptions) checkStorage() error {
	if o.Storage == "" {
		return o.errorf("storage", "is missing: set a folder that outlives culvert, for the account, keys and certificates; without it every start would order new certificates, until the CA refuses")
	}
	info, err := os.Stat(o.Storage)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it will be made
		return nil
	case err != nil:
		return o.storageError(cause(err))
	case !info.IsDir():
		return o.storageError(errors.New("not a folder"))
	}
	return nil
}

func (o *ACMEOptions) storageError(err error) error {
	return o.errorf("storage", "%s: %w: it must be a folder that culvert can write to", o.Storage, err)
}

func (o *ACMEOptions) checkEAB() error {
	switch {
	case o.EABKeyID == "" && o.EABHMACKey == "":
		return nil
	case o.EABKeyID == "":
		return o.errorf("eab.key_id", "is missing: the CA gives it together with the key in %s.eab.hmac_key", o.ConfigKey)
	case o.EABHMACKey == "":
		return o.errorf("eab.hmac_key", "is missing: the CA gives it together with the name in %s.eab.key_id", o.ConfigKey)
	}
	// Some CAs show it in this form, others require it.
	o.EABHMACKey = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(strings.TrimSpace(o.EABHMACKey))
	if _, err := base64.RawURLEncoding.DecodeString(o.EABHMACKey); err != nil {
		return o.errorf("eab.hmac_key", "is not in base64url: copy it as the CA shows it")
	}
	return nil
}

func (o *ACMEOptions) checkDNS() error {
	switch {
	case slices.Contains(o.Challenges, DNS01) && o.DNSProvider == "":
		return o.errorf("challenges", "%s needs a DNS provider: set %s.dns_provider, as docs/guides/acme.md#by-dns shows", DNS01, o.ConfigKey)
	case o.DNSProvider == "":
		return nil
	case dnsProvider(o.DNSProvider) == nil:
		known := "none"
		if names := DNSProviders(); len(names) > 0 {
			known = strings.Join(names, ", ")
		}
		return o.errorf("dns_provider", "%q isn't in this build, which has %s: docs/guides/acme.md#by-dns shows how to build one in", o.DNSProvider, known)
	}
	return nil
}

// roots returns the authorities that may have signed the directory's own
// certificate; nil: the system's.
func (o *ACMEOptions) roots() (*x509.CertPool, error) {
	if o.CARoot == "" {
		return nil, nil //nolint:nilnil // nil is how crypto/tls is told of the system's
	}
	read := contents{o.CARoot: read(o.CARoot, content{})}
	data, err := read.read(o.ConfigKey+".ca_root", o.CARoot)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	switch _, err := pemBlocks(data); {
	case err != nil:
		return nil, o.errorf("ca_root", "%s: %w", o.CARoot, err)
	case !pool.AppendCertsFromPEM(data):
		return nil, o.errorf("ca_root", "%s contains no certificate in PEM form: begin it with -----BEGIN CERTIFICATE-----", o.CARoot)
	}
	return pool, nil
}

func (o *ACMEOptions) solvers(c *challenges, log *slog.Logger) (map[string]acmez.Solver, error) {
	solvers := map[string]acmez.Solver{}
	for _, kind := range o.Challenges {
		switch kind {
		case HTTP01, TLSALPN01:
			solvers[kind] = solver{c, kind}
		case DNS01:
			provider, err := dnsProvider(o.DNSProvider)(o.DNSSettings)
			if err != nil {
				return nil, o.errorf("dns_settings", "%s", o.redactor().redact(err.Error()))
			}
			solvers[kind] = &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{
				DNSProvider: provider,
				Resolvers:   o.DNSResolvers,
				Logger:      newZap(log.Handler),
			}}
		default:
			return nil, o.errorf("challenges", "%q is none of %s, %s, %s", kind, HTTP01, TLSALPN01, DNS01)
		}
	}
	return solvers, nil
}

// redactor returns a redactor of o's secrets. The query of the directory may
// have a token.
func (o *ACMEOptions) redactor() redactor {
	secrets := append(slices.Collect(maps.Values(o.DNSSettings)), o.EABHMACKey)
	if u, err := url.Parse(o.Directory); err == nil && u.RawQuery != "" {
		secrets = append(secrets, "?"+u.RawQuery)
	}
	return newRedactor(secrets...)
}

// issuerName returns the name of a CA's folder in the storage: its host and its
// path, like certmagic's own issuer.
func issuerName(directory string) string {
	u, err := url.Parse(directory)
	if err != nil {
		return directory
	}
	name := u.Host
	if p := strings.Trim(strings.ReplaceAll(u.Path, "/", "-"), "-"); p != "" {
		name += "-" + p
	}
	return name
}

// storageFolder returns the storage's path for errors and logs.
func (o *ACMEOptions) storageFolder() string {
	if abs, err := filepath.Abs(o.Storage); err == nil {
		return abs
	}
	return o.Storage
}
