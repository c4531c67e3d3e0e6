package config

import (
	"net"
	"slices"
)

var clientAuth = oneOf([]string{"none", "optional", "require"})

// parseClientAuth also takes "", the value of a key that isn't set.
func parseClientAuth(s string) (any, error) {
	if s == "" {
		return s, nil
	}
	return clientAuth.parse(s)
}

// checkTLS is about keys that need each other.
func checkTLS(l *Loaded) []error {
	t := l.TLS
	var errs []error
	if t.Cert != "" && t.Key == "" {
		errs = append(errs, l.Errorf("tls.cert", "is a certificate without its private key: set tls.key (--tls-key)"))
	}
	if t.Key != "" && t.Cert == "" {
		errs = append(errs, l.Errorf("tls.key", "is a private key without its certificate: set tls.cert (--tls-cert)"))
	}
	for _, o := range []struct {
		key string
		set bool
	}{{"tls.cert", t.Cert != ""}, {"tls.certificates", len(t.Certificates) > 0}} {
		if t.SelfSigned && o.set {
			errs = append(errs, l.Errorf("tls.self_signed", "makes a certificate, but %s has one: remove one of them", l.place(o.key)))
		}
	}
	if !t.SelfSigned && len(t.SelfSignedNames) > 0 {
		errs = append(errs, l.Errorf("tls.self_signed_names", "names a certificate that isn't made: set tls.self_signed (--tls-self-signed)"))
	}
	if !t.Enabled() && t.Key == "" {
		// Whoever sets these believes that the port speaks TLS.
		for _, o := range []struct {
			key string
			set bool
		}{
			{"tls.client_ca", t.ClientCA != ""},
			{"tls.client_auth", t.ClientAuth != "" && t.ClientAuth != "none"},
			{"tls.crls", len(t.CRLs) > 0},
			{"tls.min_version", t.MinVersion != Defaults().TLS.MinVersion},
			{"tls.http_listen", t.HTTPListen != ""},
		} {
			if o.set {
				errs = append(errs, l.Errorf(o.key, "has no effect without a certificate: set tls.cert and tls.key (--tls-cert, --tls-key)"))
			}
		}
		return errs
	}
	switch {
	case t.ClientCA == "" && (t.ClientAuth == "require" || t.ClientAuth == "optional"):
		errs = append(errs, l.Errorf("tls.client_auth", "asks clients for a certificate, but nothing says who may have signed it: set tls.client_ca (--tls-client-ca)"))
	case t.ClientCA != "" && t.ClientAuth == "none":
		errs = append(errs, l.Errorf("tls.client_ca", "says who may have signed clients' certificates, but tls.client_auth asks for none: remove one of them"))
	case t.ClientCA == "" && len(t.CRLs) > 0 && !slices.ContainsFunc(t.Certificates, func(c Certificate) bool { return c.ClientCA != "" }):
		errs = append(errs, l.Errorf("tls.crls", "revokes certificates that no client is asked for: set tls.client_ca (--tls-client-ca)"))
	}
	return errs
}

// checkHTTPListen finds two listeners on one port.
func checkHTTPListen(l *Loaded) []error {
	host, port, err := net.SplitHostPort(l.TLS.HTTPListen)
	if err != nil || port == "0" {
		return nil // off, or any free port
	}
	taken := func(key, address string) []error {
		otherHost, otherPort, err := net.SplitHostPort(address)
		if err != nil || port != otherPort || host != otherHost && !isWildcard(host) && !isWildcard(otherHost) {
			return nil
		}
		return []error{l.Errorf("tls.http_listen", "is the port of %s: give it one of its own, or remove it", key)}
	}
	errs := taken("health.listen", l.Health.Listen)
	for _, ln := range l.Listen {
		errs = append(errs, taken("listen", ln.Address)...)
	}
	return errs
}
