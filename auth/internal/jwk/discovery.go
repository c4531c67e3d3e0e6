package jwk

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

const (
	wellKnown         = "/.well-known/openid-configuration"
	maxDiscoveryBytes = 64 << 10
	maxURLBytes       = 2048
)

// discoveryURL returns where an issuer's metadata is. OpenID Connect Discovery 1.0 §4: the
// path is appended to the issuer, without its last slash.
func discoveryURL(issuer string) (*url.URL, error) {
	u, err := parseURL(issuer)
	if err != nil {
		return nil, err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return nil, errors.New("an issuer has no query")
	}
	return parseURL(strings.TrimSuffix(issuer, "/") + wellKnown)
}

// parseDiscovery returns the jwks_uri of an issuer's metadata.
func parseDiscovery(data []byte, issuer string) (*url.URL, error) {
	o, err := object.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("the discovery document: %w", err)
	}
	// OpenID Connect Discovery 1.0 §4.3: they must be identical. Otherwise one issuer could
	// have its tokens verified with another one's keys.
	switch said, has, err := o.Text("issuer"); {
	case err != nil:
		return nil, fmt.Errorf("the discovery document: %w", err)
	case !has || said != issuer:
		return nil, fmt.Errorf("the discovery document is that of the issuer %s, not of %s: the configured issuer must be the same, byte by byte", object.Quote(said), object.Quote(issuer))
	}
	text, _, err := o.Text("jwks_uri")
	if err != nil {
		return nil, fmt.Errorf("the discovery document: %w", err)
	}
	keys, err := parseURL(text)
	if err != nil {
		return nil, fmt.Errorf("the discovery document's jwks_uri: %w", err)
	}
	if keys.Scheme == "http" && !strings.HasPrefix(issuer, "http://") {
		return nil, errors.New("the discovery document's jwks_uri is http, but its issuer is https")
	}
	return keys, nil
}

// parseURL reads the address of an issuer or of keys: https, or http on this machine. Others
// could change keys on their way.
func parseURL(text string) (*url.URL, error) {
	if len(text) > maxURLBytes {
		return nil, fmt.Errorf("a URL of over %d bytes", maxURLBytes)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("not an absolute URL") // err would show what may be a secret
	case u.User != nil:
		return nil, errors.New("a URL with a user or a password: use a token file")
	case u.Fragment != "":
		return nil, errors.New("a URL with a fragment")
	case u.Scheme == "https" || u.Scheme == "http" && local(u.Hostname()):
		return u, nil
	}
	return nil, fmt.Errorf("the scheme of %s must be https (http is for loopback only)", object.Quote(u.Host))
}

// local reports whether host is this machine.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
