package proxytls

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// list signs a list of the certificates.
func (a *authority) list(nextUpdate time.Time, extra []pkix.Extension, revoked ...tls.Certificate) []byte {
	a.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: nextUpdate, ExtraExtensions: extra}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: r.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func crlPEM(ders ...[]byte) []byte {
	var all []byte
	for _, der := range ders {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return all
}

func writeCRL(t testing.TB, dir string, ca *authority, nextUpdate time.Time, revoked ...tls.Certificate) string {
	t.Helper()
	name := filepath.Join(dir, "revoked-"+ca.name+".pem")
	writeFile(t, name, crlPEM(ca.list(nextUpdate, nil, revoked...)))
	return name
}

func TestRevokedCertificatesAreRefused(t *testing.T) {
	ca, second, dir := newAuthority(t, "ca"), newAuthority(t, "second"), t.TempDir()
	revoked, good, alsoRevoked := ca.issue(time.Hour, "revoked"), ca.issue(time.Hour, "good"), second.issue(time.Hour, "also")
	later := time.Now().Add(time.Hour)
	der := filepath.Join(dir, "list.der")
	writeFile(t, der, ca.list(later, nil, revoked))
	both := filepath.Join(dir, "both.pem")
	writeFile(t, both, crlPEM(ca.list(later, nil, revoked), second.list(later, nil, alsoRevoked)))
	for name, lists := range map[string][]string{
		"PEM": {writeCRL(t, dir, ca, later, revoked), writeCRL(t, dir, second, later, alsoRevoked)},
		"DER": {der, writeCRL(t, dir, second, later, alsoRevoked)},
		"two": {both},
	} {
		p, _ := provider(t, Options{
			Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca, second), ClientAuth: Optional, CRLs: lists,
		})
		for cert, served := range map[*tls.Certificate]bool{&revoked: false, &alsoRevoked: false, &good: true, {}: true} {
			client := as(ca, "a.example")
			if cert.Leaf != nil {
				client.Certificates = []tls.Certificate{*cert}
			}
			if _, _, err := handshake(t, p.Config(), client); (err == nil) != served {
				t.Errorf("%s: want served %v: %v", name, served, err)
			}
		}
	}
}

// Serial numbers are the signer's own: another's list says nothing about them.
func TestListCountsForItsSignerAlone(t *testing.T) {
	ca, second, dir := newAuthority(t, "ca"), newAuthority(t, "second"), t.TempDir()
	good := ca.issue(time.Hour, "good")
	p, _ := provider(t, Options{
		Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca, second),
		CRLs: []string{writeCRL(t, dir, second, time.Now().Add(time.Hour), good)},
	})
	if _, _, err := handshake(t, p.Config(), as(ca, "a.example", good)); err != nil {
		t.Errorf("refused by the list of another: %v", err)
	}
}

// A CA that renews its key keeps its name, and goes on to list what it issued
// before. RFC 5280 §6.3.3 finds a certificate's lists by the issuer's name.
func TestListOfARenewedKeyCounts(t *testing.T) {
	old, renewed, dir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir()
	later := time.Now().Add(time.Hour)
	// The same name in other words: in UTF-8, in capitals and with more blanks.
	spelled := newAuthorityOf(t, "ca", pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{
		Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(" CA")},
	}}})
	for what, signer := range map[string]*authority{"renewed": renewed, "spelled in another way": spelled} {
		for order, authorities := range map[string][]*authority{"old first": {old, signer}, "new first": {signer, old}} {
			byOld, byNew := old.issue(time.Hour, "old"), signer.issue(time.Hour, "new")
			goodOld, goodNew := old.issue(time.Hour, "good old"), signer.issue(time.Hour, "good new")
			for which, lists := range map[string][]byte{
				"new key's": crlPEM(signer.list(later, nil, byOld, byNew)),
				"old key's": crlPEM(old.list(later, nil, byOld, byNew)),
				"both":      crlPEM(old.list(later, nil, byOld), signer.list(later, nil, byNew)),
			} {
				list := filepath.Join(dir, "lists.pem")
				writeFile(t, list, lists)
				p, _ := provider(t, Options{
					Certificates: []Pair{write(t, dir, "a", old.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, authorities...), CRLs: []string{list},
				})
				for cert, served := range map[*tls.Certificate]bool{&byOld: false, &byNew: false, &goodOld: true, &goodNew: true} {
					_, _, err := handshake(t, p.Config(), as(old, "a.example", *cert))
					if (err == nil) != served {
						t.Errorf("%s, %s, the %s list: the client %q: want served %v: %v", what, order, which, cert.Leaf.Subject, served, err)
					}
				}
			}
		}
	}
}

// A key that client_ca lacks may be anybody's: its list is refused, though its
// name is that of a client CA, and the error says so.
func TestListOfAnUnknownKeyIsRefused(t *testing.T) {
	ca, stranger, dir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir()
	good := ca.issue(time.Hour, "good")
	_, err := New(Options{
		ConfigKey: "tls", Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca),
		CRLs: []string{writeCRL(t, dir, stranger, time.Now().Add(time.Hour), good)},
	})
	const want = `tls.crls: … "CN=ca" … signed … ECDSA verification failure … client_ca`
	if err == nil || !says(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// Two CAs of one name, each trusted for other names: what one of them revokes
// is nothing to the other's clients.
func TestListCountsWhereItsSignerIsTrusted(t *testing.T) {
	ca, other, dir, otherDir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir(), t.TempDir()
	client := ca.issue(time.Hour, "client")
	first := write(t, dir, "a", ca.issue(time.Hour, "a.example"))
	second := write(t, dir, "b", ca.issue(time.Hour, "b.example"))
	first.ClientCA, second.ClientCA = writeCA(t, dir, ca), writeCA(t, otherDir, other)
	later := time.Now().Add(time.Hour)
	for _, c := range []struct {
		signer *authority
		served bool
	}{{ca, false}, {other, true}} {
		p, _ := provider(t, Options{Certificates: []Pair{first, second}, CRLs: []string{writeCRL(t, dir, c.signer, later, client)}})
		if _, _, err := handshake(t, p.Config(), as(ca, "a.example", client)); (err == nil) != c.served {
			t.Errorf("want served %v: %v", c.served, err)
		}
	}
}

// Names that differ are never one, and a name that can't be read is itself.
func TestNameKey(t *testing.T) {
	raw := func(name pkix.RDNSequence) []byte {
		der, err := asn1.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	value := func(oid asn1.ObjectIdentifier, v any) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: oid, Value: v}
	}
	cn, o := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}
	same := [][]byte{
		raw(pkix.RDNSequence{{value(cn, "My CA"), value(o, "Corp")}}),
		raw(pkix.RDNSequence{{value(o, "corp"), value(cn, "my  ca ")}}),
		raw(pkix.RDNSequence{{value(cn, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("MY CA")}), value(o, "Corp")}}),
	}
	other := [][]byte{
		raw(pkix.RDNSequence{{value(cn, "My CA")}}),
		raw(pkix.RDNSequence{{value(cn, "My CA")}, {value(o, "Corp")}}),
		raw(pkix.RDNSequence{{value(o, "My CA"), value(cn, "Corp")}}),
		raw(pkix.RDNSequence{{value(cn, "My CA"), value(o, "Corp\"+2.5.4.3=\"")}}),
		raw(pkix.RDNSequence{{value(cn, asn1.RawValue{Tag: 28, Bytes: []byte("univ")})}}), // UniversalString
		raw(pkix.RDNSequence{{value(cn, asn1.RawValue{Tag: 28, Bytes: []byte("UNIV")})}}),
		raw(nil),
		[]byte("no name"),
	}
	seen := map[string]bool{nameKey(same[0]): true}
	for _, der := range same[1:] {
		if nameKey(der) != nameKey(same[0]) {
			t.Errorf("%q, want %q", nameKey(der), nameKey(same[0]))
		}
	}
	for _, der := range other {
		if key := nameKey(der); seen[key] {
			t.Errorf("%q is that of another name", key)
		} else {
			seen[key] = true
		}
	}
}

// An authority in between is in client_ca so that its own list counts, and is
// where a chain may end: the list of the one above it counts there all the same.
func TestAuthorityInBetweenIsRevoked(t *testing.T) {
	root, dir, later := newAuthority(t, "root"), t.TempDir(), time.Now().Add(time.Hour)
	between := root.between("between")
	client := between.issue(time.Hour, "client")
	options := Options{
		Certificates: []Pair{write(t, dir, "a", root.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, root, between),
		CRLs: []string{writeCRL(t, dir, between, later), writeCRL(t, dir, root, later)},
	}
	p, _ := provider(t, options)
	if _, _, err := handshake(t, p.Config(), as(root, "a.example", client)); err != nil {
		t.Errorf("refused before it was revoked: %v", err)
	}
	writeCRL(t, dir, root, later, tls.Certificate{Leaf: between.cert})
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := handshake(t, p.Config(), as(root, "a.example", client)); err == nil {
		t.Error("whom a revoked authority signed is let in")
	}
	if _, _, err := handshake(t, p.Config(), as(root, "a.example", root.issue(time.Hour, "other"))); err != nil {
		t.Errorf("whom the root signed is refused: %v", err)
	}
}

func TestRevocationEndsResumption(t *testing.T) {
	ca, dir := newAuthority(t, "ca"), t.TempDir()
	cert, later := ca.issue(time.Hour, "client"), time.Now().Add(time.Hour)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p, _ := provider(t, Options{
			Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca), CRLs: []string{writeCRL(t, dir, ca, later)},
		})
		r := newResumption(t, p, ca, "a.example", cert)
		r.client.MaxVersion = version
		for want := range 2 {
			if resumed, err := r.connect(); err != nil || resumed != (want == 1) {
				t.Fatalf("resumed is %v, %v", resumed, err)
			}
		}
		writeCRL(t, dir, ca, later, cert)
		if err := p.Reload(); err != nil {
			t.Fatal(err)
		}
		if resumed, err := r.connect(); err == nil {
			t.Errorf("%s: served after it was revoked, resumed %v", tls.VersionName(version), resumed)
		}
		// Nor would it be with the old keys: every connection is judged.
		if err := p.now.Load().unnamed.verify(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{cert.Leaf, ca.cert}}}); err == nil {
			t.Error("a resumed session isn't judged")
		}
	}
}

func TestOutdatedListIsUsedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := newAuthority(t, "ca"), t.TempDir()
		revoked, good := ca.issue(100*time.Hour, "revoked"), ca.issue(100*time.Hour, "good")
		p, told := provider(t, Options{
			Certificates: []Pair{write(t, dir, "a", ca.issue(100*time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca),
			CRLs: []string{writeCRL(t, dir, ca, time.Now().Add(time.Hour), revoked)},
		})
		if len(told.wrong()) != 0 {
			t.Errorf("at first: %q", told.wrong())
		}
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		if len(told.wrong()) != 1 || !says(told.wrong()[0], `tls.crls: … revoked-ca.pem: … "CN=ca" … since 2000-01-01T01:00:00Z`) {
			t.Errorf("told of %q", told.wrong())
		}
		if _, _, err := handshake(t, p.Config(), as(ca, "a.example", revoked)); err == nil {
			t.Error("an outdated list lets in whom it refuses")
		}
		if _, _, err := handshake(t, p.Config(), as(ca, "a.example", good)); err != nil {
			t.Errorf("an outdated list refuses whom it doesn't name: %v", err)
		}
		writeCRL(t, dir, ca, time.Now().Add(time.Hour), revoked)
		time.Sleep(lookEvery)
		synctest.Wait()
		if !slices.Equal(told.right(), told.wrong()) || len(p.Problems()) != 0 {
			t.Errorf("a new list: mended %q, left %v", told.right(), p.Problems())
		}
	})
}

func TestListsThatProveNothingAreErrors(t *testing.T) {
	ca, stranger, dir := newAuthority(t, "ca"), newAuthority(t, "stranger"), t.TempDir()
	namesake := newAuthority(t, "ca")
	later := time.Now().Add(time.Hour)
	point := func(p issuingDistributionPoint) []pkix.Extension {
		value, err := asn1.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: value}}
	}
	for name, c := range map[string]struct {
		list []byte
		want string
	}{
		"a stranger's":            {stranger.list(later, nil), "signed … client_ca"},
		"one of the same name":    {namesake.list(later, nil), "signed … client_ca"},
		"garbage":                 {[]byte("garbage"), "revocation list: malformed crl"},
		"a certificate":           {certPEM(ca.cert), "-----BEGIN X509 CRL-----"},
		"a difference":            {ca.list(later, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}}), "delta … whole list"},
		"one of several signers":  {ca.list(later, point(issuingDistributionPoint{Indirect: true})), "kind … whole list"},
		"one of a scope":          {ca.list(later, point(issuingDistributionPoint{OnlyUsers: true})), ""},
		"one with something else": {ca.list(later, []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}), "extension 1.2.3"},
		"one with a note":         {ca.list(later, []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}), ""},
		"an unmarked difference":  {ca.list(later, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Value: []byte{2, 1, 1}}}), "delta … whole list"},
		"an unmarked indirect":    {ca.list(later, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Value: point(issuingDistributionPoint{Indirect: true})[0].Value}}), "kind … whole list"},
		"two lists in a row":      {append(ca.list(later, nil), ca.list(later, nil)...), "bytes after … PEM"},
		"two in one block":        {crlPEM(append(ca.list(later, nil), ca.list(later, nil)...)), "bytes after … PEM"},
		"one under another name":  {append(crlPEM(ca.list(later, nil)), pem.EncodeToMemory(&pem.Block{Type: "CRL", Bytes: ca.list(later, nil)})...), `"CRL" … -----BEGIN X509 CRL-----`},
		"one with its signer":     {append(certPEM(ca.cert), crlPEM(ca.list(later, nil))...), ""},
	} {
		file := filepath.Join(dir, "list")
		writeFile(t, file, c.list)
		p, err := New(Options{ConfigKey: "tls", Certificates: []Pair{write(t, dir, "a", ca.issue(time.Hour, "a.example"))}, ClientCA: writeCA(t, dir, ca), CRLs: []string{file}})
		switch {
		case err == nil:
			p.Close()
			if c.want != "" {
				t.Errorf("%s: taken", name)
			}
		case c.want == "" || !says(err.Error(), "tls.crls: "+file+": … "+c.want):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParseRevocationLists(f *testing.F) {
	ca := newAuthority(f, "ca")
	list := ca.list(time.Now().Add(time.Hour), nil, ca.issue(time.Hour, "revoked"))
	f.Add(list)
	f.Add(crlPEM(list))
	f.Add(crlPEM(list, list))
	f.Add([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		lists, err := parseRevocationLists(in)
		if err == nil && len(lists) == 0 {
			t.Error("neither a list nor an error")
		}
		for _, l := range lists {
			if _, err := x509.ParseRevocationList(l.Raw); err != nil {
				t.Errorf("a list that was taken is none: %v", err)
			}
		}
	})
}
