package proxytls

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

type revocations []*revocationList

type revocationList struct {
	key, file  string
	issuer     pkix.Name
	issuerKey  string // in the form of nameKey
	serials    map[string]bool
	nextUpdate time.Time // zero: not given
}

// loadRevocations reads the lists and gives each to the policies that trust its
// signer. A list that no policy trusts is an error: otherwise its revoked clients
// would get in.
func loadRevocations(o Options, c contents, policies map[policyKey]*policy) (revocations, error) {
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
			l := newRevocationList(key, file, parsed)
			if err := l.share(parsed, policies); err != nil {
				errs = append(errs, keyErrorf(key, "%s: %w", file, err))
				continue
			}
			all = append(all, l)
		}
	}
	return all, errors.Join(errs...)
}

func newRevocationList(key, file string, parsed *x509.RevocationList) *revocationList {
	l := &revocationList{
		key: key, file: file, issuer: parsed.Issuer, issuerKey: nameKey(parsed.RawIssuer),
		serials: map[string]bool{}, nextUpdate: parsed.NextUpdate,
	}
	for _, e := range parsed.RevokedCertificateEntries {
		l.serials[string(e.SerialNumber.Bytes())] = true
	}
	return l
}

// share gives the list to each policy with an authority that signed it.
func (l *revocationList) share(parsed *x509.RevocationList, policies map[policyKey]*policy) error {
	trusted, why := false, ""
	for _, p := range policies {
		err := l.checkSignature(parsed, p.issuers)
		switch {
		case err == nil:
			trusted = true
			p.crls = append(p.crls, l)
		case !errors.Is(err, errNoSigner):
			why = fmt.Sprintf(" (the one of that name: %v)", unprefixed(err))
		}
	}
	if !trusted {
		return fmt.Errorf("none of the client CAs signed the list of %q%s: add its signer's certificate to client_ca", l.issuer, why)
	}
	return nil
}

var errNoSigner = errors.New("no authority has the name of the list's issuer")

// checkSignature returns nil if one of the authorities with the name of the
// list's issuer signed the list. A CA has several certificates of one name when
// it has renewed its key.
func (l *revocationList) checkSignature(parsed *x509.RevocationList, authorities []*x509.Certificate) error {
	err := errNoSigner
	for _, a := range authorities {
		if nameKey(a.RawSubject) != l.issuerKey {
			continue
		}
		if err = parsed.CheckSignatureFrom(a); err == nil {
			return nil
		}
	}
	return err
}

// parseRevocationLists parses one list as DER, or any number as PEM.
func parseRevocationLists(data []byte) ([]*x509.RevocationList, error) {
	var all []*x509.RevocationList
	ders := [][]byte{data}
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		blocks, err := pemBlocks(data)
		if err != nil {
			return nil, err
		}
		ders = nil
		other := "" // kind of a block that would be ignored
		for _, block := range blocks {
			switch block.Type {
			case "X509 CRL":
				ders = append(ders, block.Bytes)
			case "CERTIFICATE": // the signer's, say
			default:
				other = block.Type
			}
		}
		if len(ders) > 0 && other != "" {
			return nil, fmt.Errorf("contains a PEM block of type %q beside its lists: begin each list with -----BEGIN X509 CRL-----", other)
		}
	}
	if len(ders) == 0 || len(data) == 0 {
		return nil, errors.New("contains no revocation list: begin it with -----BEGIN X509 CRL-----")
	}
	for _, der := range ders {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, errors.New("contains no revocation list: " + unprefixed(err).Error())
		}
		if len(l.Raw) != len(der) { // another list, which would be ignored
			return nil, fmt.Errorf("has %d bytes after its revocation list: write several lists in PEM form", len(der)-len(l.Raw))
		}
		if err := complete(l); err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// complete returns an error for a list that doesn't have all the serial numbers
// that its own signer revoked. RFC 5280 §5.2 makes signers mark as critical the
// extensions that change a list's meaning; the kinds that culvert knows count
// unmarked, too.
func complete(l *x509.RevocationList) error {
	for _, e := range l.Extensions {
		switch id := e.Id.String(); {
		case id == "2.5.29.27":
			return errors.New("is a delta list (only changes since another list): use the whole list")
		case id == "2.5.29.28" && !indirect(e.Value): // issuingDistributionPoint: only the scope of the list
		case id == "2.5.29.28" || e.Critical:
			return errors.New("is a kind of list that culvert doesn't support (extension " + id + "): use the signer's own, whole list")
		}
	}
	return nil
}

// issuingDistributionPoint is the scope that a list gives for itself. RFC 5280
// §5.2.5.
type issuingDistributionPoint struct {
	Point          asn1.RawValue  `asn1:"optional,tag:0"`
	OnlyUsers      bool           `asn1:"optional,tag:1"`
	OnlyCAs        bool           `asn1:"optional,tag:2"`
	Reasons        asn1.BitString `asn1:"optional,tag:3"`
	Indirect       bool           `asn1:"optional,tag:4"`
	OnlyAttributes bool           `asn1:"optional,tag:5"`
}

// indirect reports whether a list may have certificates of other signers, or can't
// be parsed.
func indirect(extension []byte) bool {
	var point issuingDistributionPoint
	rest, err := asn1.Unmarshal(extension, &point)
	return err != nil || len(rest) > 0 || point.Indirect
}

// nameKey returns a distinguished name in a form in which equal names are
// equal: case, runs of blanks and the kind of string don't count. RFC 5280 §7.1.
func nameKey(raw []byte) string {
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &name); err != nil || len(rest) > 0 {
		return string(raw)
	}
	var key strings.Builder
	for _, set := range name {
		var parts []string
		for _, a := range set {
			text, ok := a.Value.(string)
			if !ok { // encoding/asn1 doesn't decode every kind
				return string(raw)
			}
			parts = append(parts, fmt.Sprintf("%v=%q", a.Type, strings.Join(strings.Fields(strings.ToLower(text)), " ")))
		}
		slices.Sort(parts)
		fmt.Fprintf(&key, "%s,", strings.Join(parts, "+"))
	}
	return key.String()
}

// revoke reports whether a certificate of the chain is revoked: by a list of the CA
// that issued it, which is found by name, whichever of the CA's keys signed the
// two. RFC 5280 §6.3.3. The chain's end counts, too: client_ca may have an
// intermediate authority, whose own list needs it there, and the authority above it
// may have revoked it.
func (r revocations) revoke(chain []*x509.Certificate) bool {
	for _, cert := range chain {
		serial := cert.SerialNumber.Bytes()
		for _, l := range r {
			if l.serials[string(serial)] && l.issuerKey == nameKey(cert.RawIssuer) {
				return true
			}
		}
	}
	return false
}

// outdated reports lists that should have been replaced. They still count:
// certificates that they revoke are refused. To refuse all others would let an
// attacker who holds back a list stop a whole service.
func (r revocations) outdated(now time.Time) []error {
	var errs []error
	for _, l := range r {
		if !l.nextUpdate.IsZero() && now.After(l.nextUpdate) {
			errs = append(errs, keyErrorf(l.key, "%s: the list of %q is out of date since %s and lacks later revocations: install a new one", l.file, l.issuer, l.nextUpdate.UTC().Format(time.RFC3339)))
		}
	}
	return errs
}
