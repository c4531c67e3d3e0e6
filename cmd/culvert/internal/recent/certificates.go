package recent

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// maxCertificates bounds those that are kept: clients choose the names of certificates on
// demand.
const maxCertificates = 1000

// Certificates keeps the newest certificate of each file, and of each list of names without
// one. Its methods may be called concurrently.
type Certificates struct {
	ACME bool // those without a file are obtained, and not generated

	mu   sync.Mutex
	last map[string]report.CertificateInfo
}

// Certificate is told of a certificate in use.
func (k *Certificates) Certificate(c report.CertificateInfo) {
	key := "file " + c.File
	if c.File == "" {
		key = strings.Join(c.Names, " ")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last == nil {
		k.last = make(map[string]report.CertificateInfo)
	}
	if _, known := k.last[key]; !known && len(k.last) >= maxCertificates {
		return
	}
	k.last[key] = c
}

// Forget forgets the certificate of a file that isn't in use any more.
func (k *Certificates) Forget(file string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.last, "file "+file)
}

// List returns the certificates, the first to expire first.
func (k *Certificates) List(now time.Time) []admin.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]admin.Certificate, 0, len(k.last))
	for _, c := range k.last {
		of := admin.Certificate{
			File: admin.Text(c.File), Source: "file", NotAfter: c.NotAfter.UTC(), ExpiresInSeconds: c.NotAfter.Sub(now).Round(time.Second).Seconds(), Ending: c.Ending, OnDemand: c.OnDemand, Names: []admin.Text{},
		}
		switch {
		case c.File != "":
		case k.ACME:
			of.Source = "acme"
		default:
			of.Source = "generated"
		}
		for _, name := range c.Names[:min(len(c.Names), maxNames)] {
			of.Names = append(of.Names, admin.Text(name))
		}
		all = append(all, of)
	}
	slices.SortFunc(all, func(a, b admin.Certificate) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.File, b.File), slices.Compare(a.Names, b.Names))
	})
	return all
}

// maxNames is how many names of a certificate are listed.
const maxNames = 100
