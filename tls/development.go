package proxytls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Development is the certificate authority of a developer's machine. It can sign
// for localhost and the names that it was made for, and for nothing else, so that a
// thief of its key can impersonate only those. Its methods may be called
// concurrently.
type Development struct {
	// CA is the file with its certificate, which browsers must trust.
	CA string
	// Made reports whether it was made just now: nobody trusts it yet.
	Made bool

	names  []string
	signer tls.Certificate

	mu   sync.Mutex
	leaf *tls.Certificate
}

// How long generated certificates last. culvert makes new ones while it runs.
// Browsers refuse certificates of a private authority over 825 days.
const (
	developmentCALife   = 10 * 365 * 24 * time.Hour
	developmentLeafLife = 90 * 24 * time.Hour
	backdated           = time.Hour // clocks of containers and phones
)

// The files of a Development in its folder.
const (
	caFile    = "ca.pem"
	caKeyFile = "ca.key"
)

// errEmptyName reports a constraint that every name satisfies. RFC 5280 §4.2.1.10.
var errEmptyName = errors.New("development CA: one of its names is empty, which would let it sign for every name: remove it")

// NewDevelopment opens the authority in the folder, and makes it if there is none.
// Two processes may do so at once: both get the same. Its certificate is for
// localhost, 127.0.0.1, ::1 and the names.
func NewDevelopment(folder string, names []string) (*Development, error) {
	if slices.ContainsFunc(names, func(n string) bool { return strings.Trim(n, "*.") == "" }) {
		return nil, errEmptyName
	}
	d := &Development{CA: filepath.Join(folder, caFile), names: append([]string{"localhost", "127.0.0.1", "::1"}, names...)}
	_, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		d.Made, err = makeAuthority(folder, d.names)
	}
	if err != nil {
		return nil, fmt.Errorf("development CA: %w", err)
	}
	if err := d.open(folder); err != nil {
		return nil, err
	}
	if _, err := d.GetCertificate(nil); err != nil {
		return nil, err
	}
	return d, nil
}

// makeAuthority makes both files in a folder beside the final one, and then moves
// that folder: no other process sees one file without the other, and only one
// process succeeds.
func makeAuthority(folder string, names []string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(folder), 0o700); err != nil {
		return false, err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(folder), ".development-")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // moved away, or useless
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return false, err
	}
	host, _ := os.Hostname() // only tells people whose it is
	template := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "culvert development CA " + host, Organization: []string{"culvert development"}},
		NotBefore:                   time.Now().Add(-backdated),
		NotAfter:                    time.Now().Add(developmentCALife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.PermittedIPRanges = append(template.PermittedIPRanges, exactly(ip))
		} else {
			template.PermittedDNSDomains = append(template.PermittedDNSDomains, strings.TrimPrefix(n, "*."))
		}
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return false, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return false, err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(fresh, caFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644), //nolint:gosec // everybody who is to trust it has to read it
		os.WriteFile(filepath.Join(fresh, caKeyFile), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
	); err != nil {
		return false, err
	}
	if err := os.Rename(fresh, folder); err != nil {
		if _, there := os.Stat(filepath.Join(folder, caFile)); there == nil {
			return false, nil // another process was quicker
		}
		return false, err
	}
	return true, nil
}

// exactly returns the network of one address; for loopback, all of loopback.
func exactly(ip net.IP) *net.IPNet {
	bits := 8 * net.IPv6len
	if v4 := ip.To4(); v4 != nil {
		if v4.IsLoopback() {
			return &net.IPNet{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}
		}
		ip, bits = v4, 8*net.IPv4len
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}
}

// open reads the authority and checks that it can sign for all names.
func (d *Development) open(folder string) error {
	keyFile := filepath.Join(folder, caKeyFile)
	remake := fmt.Sprintf("remove the folder %s so that culvert makes another, and trust that one", folder)
	signer, err := tls.LoadX509KeyPair(d.CA, keyFile)
	if err != nil {
		return fmt.Errorf("development CA: %w: %s", unprefixed(err), remake)
	}
	if info, err := os.Stat(keyFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("development CA: others can read its key %s: %s", keyFile, remake)
	}
	d.signer = signer
	if left := time.Until(signer.Leaf.NotAfter); left < developmentLeafLife {
		return fmt.Errorf("development CA: it expires at %s: %s", signer.Leaf.NotAfter.UTC().Format(time.RFC3339), remake)
	}
	for _, name := range d.names {
		if !d.covers(name) {
			return fmt.Errorf("development CA: it was made without the name %s and can't sign for it: %s", name, remake)
		}
	}
	return nil
}

// covers reports whether the authority's constraints let it sign for a name.
func (d *Development) covers(name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return slices.ContainsFunc(d.signer.Leaf.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	name = strings.TrimPrefix(name, "*.")
	return slices.ContainsFunc(d.signer.Leaf.PermittedDNSDomains, func(domain string) bool {
		return name == domain || strings.HasSuffix(name, "."+domain)
	})
}

// GetCertificate has the signature of tls.Config's. It makes a new certificate when
// half of the old one's life is left.
func (d *Development) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.leaf != nil && time.Until(d.leaf.Leaf.NotAfter) > developmentLeafLife/2 {
		return d.leaf, nil
	}
	leaf, err := d.issue()
	if err == nil {
		d.leaf = leaf
	}
	return leaf, err
}

func (d *Development) issue() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "culvert development"},
		NotBefore:   time.Now().Add(-backdated),
		NotAfter:    time.Now().Add(developmentLeafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range d.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, d.signer.Leaf, key.Public(), d.signer.PrivateKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, d.signer.Certificate[0]}, PrivateKey: key, Leaf: leaf}, nil
}

// HowToTrust returns instructions, for a person at a terminal, to make programs on
// this machine trust the authority.
func (d *Development) HowToTrust() string {
	return fmt.Sprintf(`Programs trust the certificate once they trust this authority, which can vouch
for %[2]s only:

  %[1]s

  Debian, Ubuntu   sudo cp %[1]q /usr/local/share/ca-certificates/culvert-development.crt && sudo update-ca-certificates
  macOS            security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain-db %[1]q
  Windows          certutil -addstore -user Root %[1]q
  Chrome on Linux  certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n culvert-development -i %[1]q
  Firefox          Settings, Privacy & Security, View Certificates, Authorities, Import
  Node             NODE_EXTRA_CA_CERTS=%[1]q
  curl             curl --cacert %[1]q
  grpcurl          grpcurl -cacert %[1]q
`, d.CA, strings.Join(d.names, ", "))
}

// Serves reports whether the certificate is for the host, a name or an address.
func (d *Development) Serves(host string) bool {
	cert, err := d.GetCertificate(nil)
	return err == nil && cert.Leaf.VerifyHostname(host) == nil
}

// Names returns the names and addresses that the certificate is for.
func (d *Development) Names() []string { return d.names }
