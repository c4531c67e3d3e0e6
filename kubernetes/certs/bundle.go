package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// maxBundle is how many CAs a caBundle keeps. A Secret that is deleted again and
// again must not fill it.
const maxBundle = 8

// addTo returns the caBundle with the CA. The earlier CAs stay until they expire, so
// that replicas may go on serving certificates that they have signed. Everything else
// goes.
//
// The order stays too: two replicas with different views of the newest CA must not
// overwrite each other for ever.
func addTo(bundle []byte, ca *x509.Certificate, now time.Time) []byte {
	var kept []*x509.Certificate
	for _, c := range append(certificates(bundle), ca) {
		if c.IsCA && now.Before(c.NotAfter) && !slices.ContainsFunc(kept, c.Equal) {
			kept = append(kept, c)
		}
	}
	if n := len(kept); n > maxBundle {
		kept = kept[n-maxBundle:]
	}
	var b bytes.Buffer
	for _, c := range kept {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return b.Bytes()
}

// certificates returns the certificates in PEM. It skips what is none.
func certificates(text []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return all
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
}
