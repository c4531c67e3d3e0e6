package keys

import (
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// An Observer is called for each loaded certificate, and again when
// the certificate expires soon and when it has expired.
type Observer interface {
	Certificate(c report.CertificateInfo)
}

// A toldCertificate is the last report about a file.
type toldCertificate struct {
	fingerprint     [sha256.Size]byte
	ending, expired bool
}

// certificate reports each file once, even if several listeners use it. The
// tls package itself reports an ACME certificate once.
func (k *Ring) certificate(c proxytls.Certificate) {
	now := time.Now()
	state := toldCertificate{c.Fingerprint, c.Ending(now), c.Expired(now)}
	var before toldCertificate
	was := false
	if c.File != "" {
		k.telling.Lock()
		before, was = k.told[c.File]
		k.told[c.File] = state
		k.telling.Unlock()
	}
	if k.obs != nil && (!was || before != state) {
		k.obs.Certificate(report.CertificateInfo{File: c.File, Names: c.Names, NotAfter: c.NotAfter, Ending: state.ending, OnDemand: c.OnDemand})
	}
}

// lateReports are the reports about certificates that a reload has opened. Nobody hears
// of them unless the reload succeeds: a time series would stay in the monitoring.
type lateReports struct {
	mu      sync.Mutex
	due     bool // the reload has succeeded
	waiting []proxytls.Certificate
}

// ReportLater is the part of a reload that keeps the reports about the certificates of
// the parts after it until the commit.
func (k *Ring) ReportLater(_, _ *config.Loaded) (commit, undo func(), err error) {
	late := &lateReports{}
	k.late = late
	commit = func() {
		k.late = nil
		late.mu.Lock()
		defer late.mu.Unlock()
		late.due = true
		for _, c := range late.waiting {
			k.certificate(c)
		}
		late.waiting = nil
	}
	return commit, func() { k.late = nil }, nil
}

// reporter returns what reports the certificates of a Provider or client that is opened
// now.
func (k *Ring) reporter() func(c proxytls.Certificate) {
	late := k.late
	if late == nil {
		return k.certificate
	}
	return func(c proxytls.Certificate) {
		late.mu.Lock()
		defer late.mu.Unlock()
		if late.due {
			k.certificate(c)
		} else {
			late.waiting = append(late.waiting, c)
		}
	}
}

// ForgetAllBut forgets the reports about files that a configuration doesn't name, and
// returns these files. If one is in use again later, it is reported again.
func (k *Ring) ForgetAllBut(c *config.Loaded) (gone []string) {
	files := certificateFiles(c)
	k.telling.Lock()
	defer k.telling.Unlock()
	for file := range k.told {
		if !slices.Contains(files, file) {
			gone = append(gone, file)
			delete(k.told, file)
		}
	}
	return gone
}

// certificateFiles returns the files of certificates that a configuration names. Some may
// be twice in it, or empty.
func certificateFiles(c *config.Loaded) []string {
	var files []string
	for i := range c.Listen {
		t := c.ListenerTLS(i)
		files = append(files, t.Cert)
		for _, pair := range t.Certificates {
			files = append(files, pair.Cert)
		}
	}
	if c.Admin.Listen != "" {
		files = append(files, c.Admin.TLS.Cert)
	}
	for _, b := range c.BackendSections() {
		files = append(files, b.TLS.Cert)
	}
	for _, s := range c.Auth.Services() {
		files = append(files, s.TLS.Cert)
	}
	return append(files, c.OTLP.Cert)
}

func (k *Ring) problem(err error) {
	k.log.Warn("something is wrong with a certificate", "problem", k.placed(err).Error())
}

func (k *Ring) mended(err error) {
	k.log.Info("solved: something was wrong with a certificate", "problem", k.placed(err).Error())
}

// placed adds the source of a key (file and line, or flag) to errors about it.
func (k *Ring) placed(err error) error {
	return placedIn(k.config.Load(), err, wholeName)
}

func wholeName(key string) string { return key }

// placedIn is placed for a configuration, in which name returns the whole name of a key.
func placedIn(c *config.Loaded, err error, name func(key string) string) error {
	return wiring.PlacedEach(err, func(one error) error {
		if about, ok := errors.AsType[*proxytls.KeyError](one); ok {
			return c.Errorf(name(about.Key), "%w", about.Err)
		}
		return one
	})
}
