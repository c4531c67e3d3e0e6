package proxytls

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"time"
)

// revocations are the lists of revoked certificates.
type revocations []*revocationList

type revocationList struct {
	key, file  string
	issuer     *x509.Certificate
	serials    map[string]bool
	nextUpdate time.Time // zero: it doesn't say
}

// loadRevocations reads the lists. Each has to be signed by one of issuers: a
// list that nobody vouches for could let in whom it leaves out.
func loadRevocations(o Options, c contents, issuers []*x509.Certificate) (revocations, error) {
	var all revocations
	var errs []error
	key := o.ConfigKey + ".crls"
	for _, file := range o.CRLs {
		data, err := c.read(key, file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		lists, err := parseRevocationLists(data)
		if err != nil {
			errs = append(errs, keyErrorf(key, "%s: %w", file, err))
			continue
		}
		for _, parsed := range lists {
			l := &revocationList{key: key, file: file, serials: map[string]bool{}, nextUpdate: parsed.NextUpdate}
			if l.issuer = signerOf(parsed, issuers); l.issuer == nil {
				errs = append(errs, keyErrorf(key, "%s: the list of %q is signed by none of the client CAs: add its signer's certificate to client_ca", file, parsed.Issuer))
				continue
			}
			for _, e := range parsed.RevokedCertificateEntries {
				l.serials[string(e.SerialNumber.Bytes())] = true
			}
			all = append(all, l)
		}
	}
	return all, errors.Join(errs...)
}

// parseRevocationLists reads one list as DER, or any number as PEM.
func parseRevocationLists(data []byte) ([]*x509.RevocationList, error) {
	var all []*x509.RevocationList
	ders := [][]byte{data}
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		blocks, err := pemBlocks(data)
		if err != nil {
			return nil, err
		}
		ders = nil
		for _, block := range blocks {
			if block.Type == "X509 CRL" {
				ders = append(ders, block.Bytes)
			}
		}
	}
	if len(ders) == 0 || len(data) == 0 {
		return nil, errors.New("holds no revocation list: begin it with -----BEGIN X509 CRL-----")
	}
	for _, der := range ders {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, errors.New("holds no revocation list: " + unprefixed(err).Error())
		}
		if err := complete(l); err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// RFC 5280 §5.2: what makes a list more than the serial numbers that its own
// signer revoked has to be marked critical.
func complete(l *x509.RevocationList) error {
	for _, e := range l.Extensions {
		switch {
		case !e.Critical:
		case e.Id.String() == "2.5.29.28" && !indirect(e.Value): // issuingDistributionPoint: only which certificates it is about
		case e.Id.String() == "2.5.29.27":
			return errors.New("lists only what changed since another list: give the whole list")
		default:
			return errors.New("is a list of a kind that culvert doesn't read (critical extension " + e.Id.String() + "): give the signer's own, whole list")
		}
	}
	return nil
}

// issuingDistributionPoint is what a list says about its own scope. RFC 5280
// §5.2.5.
type issuingDistributionPoint struct {
	Point          asn1.RawValue  `asn1:"optional,tag:0"`
	OnlyUsers      bool           `asn1:"optional,tag:1"`
	OnlyCAs        bool           `asn1:"optional,tag:2"`
	Reasons        asn1.BitString `asn1:"optional,tag:3"`
	Indirect       bool           `asn1:"optional,tag:4"`
	OnlyAttributes bool           `asn1:"optional,tag:5"`
}

// indirect reports whether a list may hold certificates of other signers, or
// can't be read.
func indirect(extension []byte) bool {
	var point issuingDistributionPoint
	rest, err := asn1.Unmarshal(extension, &point)
	return err != nil || len(rest) > 0 || point.Indirect
}

func signerOf(l *x509.RevocationList, issuers []*x509.Certificate) *x509.Certificate {
	for _, issuer := range issuers {
		if bytes.Equal(issuer.RawSubject, l.RawIssuer) && l.CheckSignatureFrom(issuer) == nil {
			return issuer
		}
	}
	return nil
}

// leaveOne reports whether one of the chains holds no revoked certificate.
func (r revocations) leaveOne(chains [][]*x509.Certificate) bool {
	for _, chain := range chains {
		if !r.revoke(chain) {
			return true
		}
	}
	return false
}

// revoke reports whether a certificate of the chain is revoked: by a list of
// the key that signed it, under whichever certificate that key is known. The
// chain's end counts, too: client_ca may have an authority in between, whose
// own list needs it there, and the one above it may have revoked it.
func (r revocations) revoke(chain []*x509.Certificate) bool {
	for i, cert := range chain {
		for _, l := range r {
			if l.serials[string(cert.SerialNumber.Bytes())] && l.isOf(cert, chain[i+1:]) {
				return true
			}
		}
	}
	return false
}

// isOf reports whether the list is of the key that signed the certificate,
// which above begins with, or else is to be found out.
func (l *revocationList) isOf(cert *x509.Certificate, above []*x509.Certificate) bool {
	if len(above) == 0 {
		return bytes.Equal(l.issuer.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(l.issuer) == nil
	}
	return bytes.Equal(l.issuer.RawSubject, above[0].RawSubject) &&
		bytes.Equal(l.issuer.RawSubjectPublicKeyInfo, above[0].RawSubjectPublicKeyInfo)
}

// outdated is about lists that should have been replaced. They go on to count:
// whom they refuse is refused, and to refuse everybody else would let the one
// who holds back a list stop all of a service.
func (r revocations) outdated(now time.Time) []error {
	var errs []error
	for _, l := range r {
		if !l.nextUpdate.IsZero() && now.After(l.nextUpdate) {
			errs = append(errs, keyErrorf(l.key, "%s: the list of %q is out of date since %s, so it lacks what was revoked since: bring a new one", l.file, l.issuer.Subject, l.nextUpdate.UTC().Format(time.RFC3339)))
		}
	}
	return errs
}
