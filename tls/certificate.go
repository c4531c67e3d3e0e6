package proxytls

import (
	"crypto/sha256"
	"crypto/x509"
	"time"
)

// A Certificate describes a certificate in use.
type Certificate struct {
	File      string   // "" if it was generated or obtained by ACME
	Names     []string // hosts, addresses and URIs; if none, the common name
	NotBefore time.Time
	NotAfter  time.Time

	// OnDemand reports that a client's first handshake asked for the certificate, so the
	// client has chosen the name.
	OnDemand bool

	// Fingerprint is the SHA-256 of the whole. It distinguishes two certificates of
	// one file with the same end.
	Fingerprint [sha256.Size]byte

	key string // what names the file
}

// soon is how long before its end a certificate should have been replaced.
const soon = 7 * 24 * time.Hour

// Expired reports whether the certificate is past its end.
func (c Certificate) Expired(now time.Time) bool { return now.After(c.NotAfter) }

// Ending reports whether the certificate should have been replaced by now: from
// seven days before its end, or when only a quarter of its life is left.
func (c Certificate) Ending(now time.Time) bool {
	return c.NotAfter.Sub(now) < min(soon, c.NotAfter.Sub(c.NotBefore)/4)
}

// outOfTime reports the certificates that have expired, or aren't valid yet.
// Clients refuse such a certificate, but it stays in use, since this host's clock
// may be wrong.
func outOfTime(certificates []Certificate, now time.Time) []error {
	var errs []error
	for _, c := range certificates {
		switch {
		case c.Expired(now):
			errs = append(errs, keyErrorf(c.key, "%s: the certificate expired at %s: renew it", c.File, c.NotAfter.UTC().Format(time.RFC3339)))
		case now.Before(c.NotBefore):
			errs = append(errs, keyErrorf(c.key, "%s: the certificate is not valid before %s: install it then, or check the clocks of this host and of the CA", c.File, c.NotBefore.UTC().Format(time.RFC3339)))
		}
	}
	return errs
}

func factOf(key, file string, leaf *x509.Certificate) Certificate {
	c := Certificate{File: file, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Fingerprint: sha256.Sum256(leaf.Raw), key: key}
	c.Names = append(c.Names, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	for _, uri := range leaf.URIs {
		c.Names = append(c.Names, uri.String())
	}
	if len(c.Names) == 0 && leaf.Subject.CommonName != "" {
		c.Names = []string{leaf.Subject.CommonName}
	}
	return c
}
