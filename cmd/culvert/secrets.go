package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/culvert-grpc/culvert/config"
)

// What everybody who has an account on a host may do with a file or a folder.
const (
	everybodyEnters fs.FileMode = 0o001
	everybodyWrites fs.FileMode = 0o002
	everybodyReads  fs.FileMode = 0o004
)

// exposedSecrets says which of the files that hold private keys somebody else
// than culvert's user and group can get at. A group is nothing to warn of: it is
// how Kubernetes gives a secret to a program that isn't root (fsGroup).
func exposedSecrets(c *config.Loaded) []string {
	var warnings []string
	for _, k := range keyFiles(c) {
		const remedy = "chmod 640 it, or less; a secret of Kubernetes wants defaultMode 0440, and an fsGroup"
		switch mode := everybodyMay(k.file); {
		case mode&everybodyWrites != 0:
			warnings = append(warnings, c.Errorf(k.key, "%s can be changed by everybody on this host: %s", k.file, remedy).Error())
		case mode&everybodyReads != 0:
			warnings = append(warnings, c.Errorf(k.key, "%s can be read by everybody on this host: %s", k.file, remedy).Error())
		}
	}
	if folder := c.TLS.ACME.Storage; c.TLS.ACME.Enabled() && folder != "" {
		const remedy = "chmod 700 it, or name a folder in it, which culvert makes for itself"
		switch mode := everybodyMay(folder); {
		case mode&everybodyEnters == 0:
		case mode&everybodyWrites != 0:
			warnings = append(warnings, c.Errorf("tls.acme.storage", "everybody on this host can write to %s, which is to hold private keys: %s", folder, remedy).Error())
		case mode&everybodyReads != 0:
			warnings = append(warnings, c.Errorf("tls.acme.storage", "everybody on this host can look into %s, which is to hold private keys: %s", folder, remedy).Error())
		}
	}
	return warnings
}

// A keyFile is a file with a private key, and what names it.
type keyFile struct{ key, file string }

// keyFiles lists each file once.
func keyFiles(c *config.Loaded) []keyFile {
	var files []keyFile
	add := func(key, file string) {
		if file != "" && !slices.ContainsFunc(files, func(k keyFile) bool { return k.file == file }) {
			files = append(files, keyFile{key, file})
		}
	}
	for i := range c.Listen {
		at, t := config.Entry("listen", i)+".tls", c.ListenerTLS(i)
		add(at+".key", t.Key)
		for j, pair := range t.Certificates {
			add(config.Entry(at+".certificates", j)+".key", pair.Key)
		}
	}
	add("backend.tls.key", c.Backend.TLS.Key)
	return files
}

// everybodyMay returns what everybody may do with what a path leads to: nothing
// that is in a folder that not everybody can enter, and nothing of what isn't
// there.
func everybodyMay(path string) fs.FileMode {
	if runtime.GOOS == "windows" { // which makes modes up
		return 0
	}
	path, err := filepath.EvalSymlinks(path) // as Kubernetes has them
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return 0
	}
	mode := fs.FileMode(0o007)
	for below := ""; path != below; path, below = filepath.Dir(path), path {
		info, err := os.Stat(path)
		if err != nil || below != "" && info.Mode()&everybodyEnters == 0 {
			return 0
		}
		if below == "" {
			mode &= info.Mode()
		}
	}
	return mode
}
