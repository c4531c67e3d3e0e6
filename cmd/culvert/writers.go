package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// What everybody who has an account on a host may do with a file or a folder.
const (
	everybodyEnters fs.FileMode = 0o001
	everybodyWrites fs.FileMode = 0o002
	everybodyReads  fs.FileMode = 0o004

	groupEnters fs.FileMode = 0o010
	groupWrites fs.FileMode = 0o020
)

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

// An exposure is a file or a folder that others can write to.
type exposure struct {
	path   string
	folder bool
	who    string // "everybody on this host", "the group staff"
	why    string // of a folder: "can be written to by …"
	remedy string // of a folder
}
