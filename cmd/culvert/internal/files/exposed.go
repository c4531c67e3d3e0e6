// Package files looks at the files that a configuration names: it watches them for changes,
// finds those that others can get at, and keeps the newest version of those with descriptors.
package files

import (
	"fmt"
	"slices"

	"github.com/culvert-grpc/culvert/config"
)

// A guardedFile is a file that decides who may call, with the key that names
// it.
type guardedFile struct {
	key    string // "" for the configuration itself
	file   string
	secret bool // others must not read it, either
}

const (
	narrowRemedy = "use chmod 640, or less; for a Kubernetes secret, set defaultMode 0440 and an fsGroup"
	fileRemedy   = "use chmod 644, or less"
)

// Exposed returns warnings about guarded files. It warns if others than
// root and culvert's user and groups can change or replace a file. It also
// warns if everybody can read a secret. A group may read a secret, because
// Kubernetes gives a program without root access in this way (fsGroup).
func Exposed(c *config.Loaded) []string {
	var warnings []string
	warn := func(key, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if key != "" {
			text = c.Errorf(key, "%s", text).Error()
		}
		warnings = append(warnings, text)
	}
	w := newWriters()
	for _, f := range guardedFiles(c) {
		remedy := fileRemedy
		if f.secret {
			remedy = narrowRemedy
		}
		changed := false
		for _, e := range w.exposures(f.file) {
			changed = changed || !e.folder
			if e.folder {
				warn(f.key, "%s can be replaced by %s, because the directory %s %s: %s", f.file, e.who, e.path, e.why, e.remedy)
			} else {
				warn(f.key, "%s can be changed by %s: %s", f.file, e.who, remedy)
			}
		}
		if f.secret && !changed && everybodyMay(f.file)&everybodyReads != 0 {
			warn(f.key, "%s can be read by everybody on this host: %s", f.file, remedy)
		}
	}
	if folder := c.TLS.ACME.Storage; c.TLS.ACME.Enabled() && folder != "" {
		const key, remedy = "tls.acme.storage", "use chmod 700, or name a directory in it, which culvert creates for itself"
		switch mode := everybodyMay(folder); {
		case mode&everybodyEnters == 0:
		case mode&everybodyWrites != 0:
			warn(key, "everybody on this host can write to %s, which is for private keys: %s", folder, remedy)
		case mode&everybodyReads != 0:
			warn(key, "everybody on this host can look into %s, which is for private keys: %s", folder, remedy)
		}
	}
	return warnings
}

// addAuth adds the files of auth. Whoever can change keys of issuers or hashes of API keys can
// make credentials.
func addAuth(c *config.Loaded, add func(key, file string, secret bool)) {
	for i := range c.Auth.Issuers {
		at, issuer := config.Entry("auth.issuers", i), &c.Auth.Issuers[i]
		add(at+".token_file", issuer.TokenFile, true)
		add(at+".keys_token_file", issuer.KeysTokenFile, true)
		add(at+".keys_file", issuer.KeysFile, false)
		add(at+".ca", issuer.CA, false)
		add(at+".keys_ca", issuer.KeysCA, false)
	}
	add("auth.api_keys.file", c.Auth.APIKeys.File, false)
	for _, s := range c.Auth.Services() {
		add(s.Section+".tls.key", s.TLS.Key, true)
		add(s.Section+".tls.ca", s.TLS.CA, false)
		add(s.Section+".tls.cert", s.TLS.Cert, false)
	}
}

// guardedFiles returns each file once, secrets first.
func guardedFiles(c *config.Loaded) []guardedFile {
	var secrets, others []guardedFile
	add := func(key, file string, secret bool) {
		to := &others
		if secret {
			to = &secrets
		}
		*to = append(*to, guardedFile{key, file, secret})
	}
	add("", c.File, false)
	for i := range c.Listen {
		at, t := config.Entry("listen", i)+".tls", c.ListenerTLS(i)
		add(at+".key", t.Key, true)
		add(at+".client_ca", t.ClientCA, false)
		add(at+".cert", t.Cert, false)
		for j, pair := range t.Certificates {
			entry := config.Entry(at+".certificates", j)
			add(entry+".key", pair.Key, true)
			add(entry+".client_ca", pair.ClientCA, false)
			add(entry+".cert", pair.Cert, false)
		}
		for _, list := range t.CRLs {
			add(at+".crls", list, false)
		}
	}
	for _, b := range c.BackendSections() {
		add(b.Section+".tls.key", b.TLS.Key, true)
		add(b.Section+".tls.ca", b.TLS.CA, false)
		add(b.Section+".tls.cert", b.TLS.Cert, false)
		add(b.Section+".descriptors", b.Descriptors, false) // they say which methods a GET may call
	}
	addAuth(c, add)
	if a := c.Admin; a.Listen != "" {
		add("admin.token", a.Token, true)
		add("admin.tls.key", a.TLS.Key, true)
		add("admin.tls.cert", a.TLS.Cert, false)
	}
	for _, r := range c.References {
		add(r.Key, r.File, true)
	}
	add("tls.acme.ca_root", c.TLS.ACME.CARoot, false)
	seen := map[string]bool{"": true}
	return slices.DeleteFunc(append(secrets, others...), func(f guardedFile) bool {
		was := seen[f.file]
		seen[f.file] = true
		return was
	})
}
