package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
)

// ACME configures certificates from an ACME CA.
type ACME struct {
	// Names for which culvert gets and renews a certificate. "*.example.com"
	// requires dns_provider. By setting a name, you agree to the terms of the CA.
	Domains []string `key:"domains" is:"domain"`

	// Directory for the ACME account, certificates and keys; required. It must
	// persist, and culvert creates it for its user alone. Instances can share it.
	Storage string `key:"storage" is:"directory"`

	// Address for mail from the CA about problems with the account.
	Email string `key:"email" is:"email"`

	// URL of the CA's directory. Default: Let's Encrypt. Its staging environment,
	// for tests, is "https://acme-staging-v02.api.letsencrypt.org/directory".
	Directory string `key:"directory" is:"https url"`

	// CA certificates (PEM) for verifying the directory's server, read again on
	// SIGHUP. Default: the system's CAs.
	CARoot string `key:"ca_root" is:"file"`

	// ACME challenges that culvert may use:
	//
	//   - "tls-alpn-01": the CA must reach this server on port 443.
	//   - "http-01": the CA must reach tls.http_listen on port 80.
	//   - "dns-01": a DNS record, which dns_provider writes.
	//
	// Default: dns-01 with a dns_provider, otherwise tls-alpn-01, and with a
	// tls.http_listen also http-01.
	Challenges []string `key:"challenges" one:"tls-alpn-01,http-01,dns-01"`

	// Patterns of names whose certificate culvert gets when a client first asks for
	// it: "shop.example.com", "*.example.com" (one label). It orders 20 at once, and
	// then one every 45s.
	OnDemand []string `key:"on_demand" is:"domain"`

	// External account binding, for a CA that requires it.
	EAB EAB `key:"eab"`

	// The DNS provider that writes the record for dns-01. This program must be
	// built with it (docs/guides/acme.md#by-dns).
	DNSProvider string `key:"dns_provider" is:"word"`

	// Settings for the DNS provider, usually a token.
	DNSSettings []DNSSetting `key:"dns_settings"`

	// Name servers ("192.0.2.53:53") that culvert asks for the record of dns-01.
	// Default: the zone's own.
	DNSResolvers []string `key:"dns_resolvers" is:"resolver"`
}

// Enabled reports whether culvert gets certificates from an ACME CA.
func (a ACME) Enabled() bool { return len(a.Domains) > 0 || len(a.OnDemand) > 0 }

func (a ACME) namesKey() string {
	if len(a.Domains) == 0 {
		return "tls.acme.on_demand"
	}
	return "tls.acme.domains"
}

// EAB is an external account binding.
type EAB struct {
	// The ID of the key at the CA.
	KeyID string `key:"key_id" is:"word"`

	// The key in base64url, as the CA shows it. Use "file:eab.key" or
	// "${EAB_HMAC_KEY}" instead of the key itself.
	HMACKey string `key:"hmac_key" is:"secret"`
}

// DNSSetting is one setting of the DNS provider.
type DNSSetting struct {
	// The name of the setting in the provider's documentation.
	Name string `key:"name" is:"word" needed:"true"`

	// The value. Use "file:dns.token" or "${DNS_TOKEN}" instead of a token
	// itself.
	Value string `key:"value" is:"secret"`
}

func checkDomain(s string) error {
	below := strings.TrimPrefix(s, "*.")
	if _, err := netip.ParseAddr(s); err == nil {
		return errors.New("is an IP address: write a name, such as grpc.example.com")
	}
	if strings.Contains(below, ":") || !strings.Contains(below, ".") {
		return errors.New(`is not a full domain name: write grpc.example.com or *.example.com`)
	}
	return checkName(below)
}

func checkEmail(s string) error {
	local, host, found := strings.Cut(s, "@")
	if !found || local == "" || strings.ContainsAny(s, " <>,") || checkName(host) != nil {
		return errors.New("is not an email address: write ops@example.com")
	}
	return nil
}

func checkHTTPSURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("is not an HTTPS URL: write https://ca.example.com/acme/acme/directory")
	}
	return nil
}

func checkResolver(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return errors.New("is not the address of a name server: write 192.0.2.53:53")
	}
	return nil
}

// anyText accepts every value. It never fails, so no error contains a secret.
func anyText(string) error { return nil }

// checkACME checks keys that depend on each other. The packages that use the
// files and the providers check those.
func checkACME(l *Loaded) {
	a := l.TLS.ACME
	if !a.Enabled() {
		withoutEffect(l, "tls.acme.domains: list the names for which culvert gets certificates", "storage", "email", "directory", "ca_root",
			"challenges", "eab.key_id", "eab.hmac_key", "dns_provider", "dns_settings", "dns_resolvers")
		return
	}
	if l.TLS.SelfSigned {
		l.refuse("tls.self_signed", "creates a development certificate, but %s gets real ones: remove one of these keys", l.Place("tls.acme.domains"))
	}
	if a.Storage == "" {
		l.refuse(a.namesKey(), "requires tls.acme.storage: name a directory that outlives culvert; without it, culvert would get new certificates at each start, until the CA refuses")
	}
	for _, c := range a.Challenges {
		switch {
		case c == "http-01" && l.TLS.HTTPListen == "":
			l.refuse("tls.acme.challenges", `http-01 uses plaintext HTTP: set tls.http_listen to ":80"`)
		case c == "dns-01" && a.DNSProvider == "":
			l.refuse("tls.acme.challenges", "dns-01 requires tls.acme.dns_provider: see docs/guides/acme.md#by-dns")
		}
	}
	if a.DNSProvider == "" {
		withoutEffect(l, "tls.acme.dns_provider: name the provider", "dns_settings", "dns_resolvers")
	}
}

// withoutEffect refuses each key of tls.acme that is set and has no effect.
func withoutEffect(l *Loaded, missing string, keys ...string) {
	for _, key := range keys {
		k := fileKeys.key("tls.acme." + key)
		if !reflect.ValueOf(l.Config).FieldByIndex(k.index).IsZero() {
			l.refuse(k.Name, "has no effect without %s", missing)
		}
	}
}
