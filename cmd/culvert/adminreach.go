package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	"github.com/culvert-grpc/culvert/config"
)

// An adminReach has the flags of the commands that ask the admin address of another culvert.
// Without them, the commands find what they need in the configuration of that culvert: the
// address, the certificate and the token.
type adminReach struct {
	*settings
	tokenFile, ca string
}

func addAdminReach(cmd *cobra.Command) *adminReach {
	r := &adminReach{settings: addSettings(cmd, "admin")}
	flags := cmd.Flags()
	flags.Lookup("admin").Usage = "`address` of culvert's operators, as for serve, or https://HOST:PORT for one on another host"
	flags.StringVar(&r.tokenFile, "token-file", "", "`file` with the token of the admin address, in place of admin.token")
	flags.StringVar(&r.ca, "admin-ca", "", "`file` with the CAs to trust at the admin address, in PEM, in place of the certificate in admin.tls.cert or of the system's")
	mustComplete(cmd.MarkFlagFilename("token-file"))
	mustComplete(cmd.MarkFlagFilename("admin-ca", "pem", "crt"))
	return r
}

// client returns a client of the admin address. off is what follows if there is none, and the
// remedy.
func (r *adminReach) client(ctx context.Context, off string) (*adminClient, error) {
	given, _ := r.flags["admin.listen"].(string)
	if !strings.HasPrefix(given, "https://") {
		return r.configured(ctx, off)
	}
	at, err := url.Parse(given)
	if err != nil || at.Hostname() == "" || strings.Trim(at.Path, "/") != "" || at.RawQuery != "" || at.User != nil || at.Fragment != "" {
		return nil, &misuse{errors.New("--admin: is not the address of a culvert: write https://HOST:PORT")}
	}
	delete(r.flags, "admin.listen") // the rest of the configuration counts
	c, err := r.loadKeys("admin.token")
	if err != nil {
		return nil, err
	}
	port := at.Port()
	if port == "" {
		port = "443"
	}
	secure, err := r.trust("")
	if err != nil {
		return nil, err
	}
	secure.ServerName = at.Hostname()
	client := newAdminClient(net.JoinHostPort(at.Hostname(), port))
	client.base = "https://" + at.Host
	client.secure(secure)
	client.token, err = r.token(ctx, c)
	return client, err
}

func (r *adminReach) configured(ctx context.Context, off string) (*adminClient, error) {
	address, c, err := fixedAddress(r.settings, []string{"admin.listen", "admin.token", "admin.tls.cert"}, "9902", off,
		func(c *config.Loaded) string { return c.Admin.Listen })
	if err != nil {
		return nil, err
	}
	client := newAdminClient(address)
	if c.Admin.Socket() != "" {
		return client, nil // it wants neither
	}
	if client.token, err = r.token(ctx, c); err != nil {
		return nil, err
	}
	if c.Admin.TLS.Cert == "" && r.ca == "" {
		if client.token != "" && !staysHere(address) {
			return nil, &misuse{fmt.Errorf("--admin: the token would cross the network in plain text: write https://%s", address)}
		}
		return client, nil
	}
	secure, err := r.trust(c.Admin.TLS.Cert)
	if err != nil {
		return nil, err
	}
	if host, _, _ := net.SplitHostPort(address); secure.ServerName == "" {
		secure.ServerName = host
	}
	client.base = "https://localhost" // the admin address has this name, too
	client.secure(secure)
	return client, nil
}

// staysHere reports whether a connection to an address can't leave this host. An address
// without a host is this one.
func staysHere(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	addr, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil && (addr.IsLoopback() || addr.IsUnspecified())
}

// token returns the token, or "" if none is set.
func (r *adminReach) token(ctx context.Context, c *config.Loaded) (token string, err error) {
	switch {
	case r.tokenFile != "":
		if token, err = tokenOf(r.tokenFile)(ctx); err != nil {
			err = &misuse{fmt.Errorf("--token-file: %w", err)}
		}
	case c.Admin.Token != "":
		if token, err = tokenOf(c.Admin.Token)(ctx); err != nil {
			err = c.Errorf("admin.token", "%w: name a file that you can read with --token-file", sockets.Cause(err))
		}
	}
	return token, err
}

// trust returns a TLS configuration that trusts the CAs of --admin-ca, or without it the one
// certificate in a file of the configuration, or without both the system's CAs.
func (r *adminReach) trust(file string) (*tls.Config, error) {
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("admin.tls.cert: %s: %w: name the CAs with --admin-ca", file, sockets.Cause(err))
		}
		shown, name, err := firstCertificate(text)
		if err != nil {
			return nil, fmt.Errorf("admin.tls.cert: %s: %w", file, err)
		}
		secure.ServerName = name
		if r.ca == "" {
			// The file has the very certificate that culvert shows. The handshake proves that
			// it has the key, so neither names nor CAs matter.
			secure.InsecureSkipVerify = true
			secure.VerifyConnection = func(s tls.ConnectionState) error {
				if !bytes.Equal(s.PeerCertificates[0].Raw, shown) {
					return errOtherCertificate
				}
				return nil
			}
			return secure, nil
		}
	}
	if r.ca != "" {
		text, err := os.ReadFile(r.ca)
		if err != nil {
			return nil, &misuse{fmt.Errorf("--admin-ca: %w", err)}
		}
		secure.RootCAs = x509.NewCertPool()
		if !secure.RootCAs.AppendCertsFromPEM(text) {
			return nil, &misuse{fmt.Errorf("--admin-ca: %s has no certificate in PEM", r.ca)}
		}
	}
	return secure, nil
}

// errOtherCertificate comes until culvert has noticed that the file has changed, too.
var errOtherCertificate = errors.New("the certificate isn't the one in admin.tls.cert: if that has just changed, culvert shows it in 5 s")

// firstCertificate returns the first certificate of a PEM file, and a name that it is for.
func firstCertificate(text []byte) (raw []byte, name string, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, "", err
		}
		switch {
		case len(c.DNSNames) > 0:
			name = strings.Replace(c.DNSNames[0], "*", "culvert", 1)
		case len(c.IPAddresses) > 0:
			name = c.IPAddresses[0].String()
		}
		return c.Raw, name, nil
	}
	return nil, "", errors.New("it has no certificate in PEM")
}

func isUntrusted(err error) bool {
	_, verified := errors.AsType[*tls.CertificateVerificationError](err)
	return verified || errors.Is(err, errOtherCertificate)
}

func (c *adminClient) secure(config *tls.Config) {
	if over, ok := c.http.Transport.(*http.Transport); ok { // it is sockets.Client's
		over.TLSClientConfig = config
	}
}

// request returns a request of an operator, which may change something.
func (c *adminClient) request(ctx context.Context, method, path string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set(admin.Header, "1")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}
