package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// ACME has a CA give culvert its certificates.
type ACME struct {
	// Names that clients call culvert by: a certificate is fetched for each,
	// kept in storage, and renewed. "*.example.com" takes dns_provider. With a
	// domain you agree to the CA's terms.
	Domains []string `key:"domains" is:"domain"`

	// Where the CA keeps account, certificates and keys: a folder that
	// outlives culvert, which it makes for nobody else to read. Replicas that
	// share it fetch each certificate once. Needed; a relative path starts at
	// the directory of the file it stands in.
	Storage string `key:"storage" is:"file"`

	// Where the CA writes to, if something is wrong with the account.
	Email string `key:"email" is:"email"`

	// URL of the CA's directory. The default is Let's Encrypt;
	// "https://acme-staging-v02.api.letsencrypt.org/directory" is its place to
	// try things out.
	Directory string `key:"directory" is:"https url"`

	// File with the certificates (PEM) of those who signed the directory's own
	// certificate, for a CA within a company. Empty: the system's. It is read
	// again on HUP.
	CARoot string `key:"ca_root" is:"file"`

	// How the CA is shown that a name is ours: "tls-alpn-01" where it reaches
	// this server at port 443, "http-01" where it reaches tls.http_listen at
	// port 80, "dns-01" by a record. Empty: dns-01 if there is a dns_provider,
	// else tls-alpn-01, and http-01 if there is a tls.http_listen.
	Challenges []string `key:"challenges" one:"tls-alpn-01,http-01,dns-01"`

	// Patterns of names that a certificate is fetched for when a client first
	// asks for one: "shop.example.com", "*.example.com" (one label). Whoever
	// can think of a name below has one fetched, within a budget of 20 and one
	// more every 10s.
	OnDemand []string `key:"on_demand" is:"domain"`

	// The account that a CA knows its customers by, if it wants one (external
	// account binding).
	EAB EAB `key:"eab"`

	// The provider of DNS that writes the record of dns-01: one that this
	// program was built with. docs/guides/acme.md#by-dns shows how.
	DNSProvider string `key:"dns_provider" is:"word"`

	// What the provider of DNS is told, a token for the most part.
	DNSSettings []DNSSetting `key:"dns_settings"`

	// Addresses of name servers ("192.0.2.53:53") that are asked whether the
	// record of dns-01 can be seen. Empty: those of the zone.
	DNSResolvers []string `key:"dns_resolvers" is:"resolver"`
}

// Enabled says whether certificates are fetched.
func (a ACME) Enabled() bool { return len(a.Domains) > 0 || len(a.OnDemand) > 0 }

// EAB is a customer's account.
type EAB struct {
	// Its name at the CA.
	KeyID string `key:"key_id" is:"word"`

	// Its key, in base64url, as the CA shows it: better "file:eab.key" or
	// "${EAB_HMAC_KEY}" than the key itself.
	HMACKey string `key:"hmac_key" is:"secret"`
}

// DNSSetting is one thing that a provider of DNS is told.
type DNSSetting struct {
	// What the provider calls it, as its own documents say.
	Name string `key:"name" is:"word" needed:"true"`

	// Its value: better "file:dns.token" or "${DNS_TOKEN}" than a token
	// itself.
	Value string `key:"value" is:"secret"`
}

func checkDomain(s string) error {
	below := strings.TrimPrefix(s, "*.")
	if _, err := netip.ParseAddr(s); err == nil {
		return errors.New("is an address: write a name, as grpc.example.com")
	}
	if strings.Contains(below, ":") || !strings.Contains(below, ".") {
		return errors.New(`is no domain: write a whole name, as grpc.example.com or *.example.com`)
	}
	return checkName(below)
}

func checkEmail(s string) error {
	local, host, found := strings.Cut(s, "@")
	if !found || local == "" || strings.ContainsAny(s, " <>,") || checkName(host) != nil {
		return errors.New("is no address of e-mail: write ops@example.com")
	}
	return nil
}

func checkHTTPSURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("is no URL with https: write https://ca.example.com/acme/acme/directory")
	}
	return nil
}

func checkResolver(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return errors.New("is no address of a name server: write 192.0.2.53:53")
	}
	return nil
}

// anyText is the check of a value that can be anything: it never fails, so
// no error ever holds a secret.
func anyText(string) error { return nil }

// checkACME is about keys that need each other. The rest, files and providers,
// is judged by who uses them.
func checkACME(l *Loaded) []error {
	a := l.TLS.ACME
	if !a.Enabled() {
		return withoutEffect(l, "tls.acme.domains: list the names that certificates are fetched for", a, "storage", "email", "directory", "ca_root",
			"challenges", "eab.key_id", "eab.hmac_key", "dns_provider", "dns_settings", "dns_resolvers")
	}
	var errs []error
	if l.TLS.SelfSigned {
		errs = append(errs, l.Errorf("tls.self_signed", "makes certificates for development, but %s fetches real ones: remove one of them", l.place("tls.acme.domains")))
	}
	if a.Storage == "" {
		key := "tls.acme.domains"
		if len(a.Domains) == 0 {
			key = "tls.acme.on_demand"
		}
		errs = append(errs, l.Errorf(key, "has certificates fetched, but tls.acme.storage is missing: name a folder that outlives culvert; without it every start would fetch anew, until the CA refuses"))
	}
	for _, c := range a.Challenges {
		switch {
		case c == "http-01" && l.TLS.HTTPListen == "":
			errs = append(errs, l.Errorf("tls.acme.challenges", `http-01 is answered in plaintext: set tls.http_listen, as ":80"`))
		case c == "dns-01" && a.DNSProvider == "":
			errs = append(errs, l.Errorf("tls.acme.challenges", "dns-01 takes a tls.acme.dns_provider: docs/guides/acme.md#by-dns shows how"))
		}
	}
	if a.DNSProvider == "" {
		errs = append(errs, withoutEffect(l, "tls.acme.dns_provider: name the provider", a, "dns_settings", "dns_resolvers")...)
	}
	return errs
}

// withoutEffect finds keys of tls.acme that say something and do nothing.
func withoutEffect(l *Loaded, missing string, a ACME, keys ...string) []error {
	says := map[string]bool{
		"storage": a.Storage != "", "email": a.Email != "", "directory": a.Directory != "", "ca_root": a.CARoot != "",
		"challenges": len(a.Challenges) > 0, "eab.key_id": a.EAB.KeyID != "", "eab.hmac_key": a.EAB.HMACKey != "",
		"dns_provider": a.DNSProvider != "", "dns_settings": len(a.DNSSettings) > 0, "dns_resolvers": len(a.DNSResolvers) > 0,
	}
	var errs []error
	for _, key := range keys {
		if says[key] {
			errs = append(errs, l.Errorf("tls.acme."+key, "has no effect without %s", missing))
		}
	}
	return errs
}
