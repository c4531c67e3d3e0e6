package files

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Permissions of all users of a host for a file or a directory.
const (
	everybodyEnters fs.FileMode = 0o001
	everybodyWrites fs.FileMode = 0o002
	everybodyReads  fs.FileMode = 0o004

	groupEnters fs.FileMode = 0o010
	groupWrites fs.FileMode = 0o020
)

// everybodyMay returns the permissions of all users for the target of a path.
// It returns none if they can't enter a directory of the path, and none for a
// missing file.
func everybodyMay(path string) fs.FileMode {
	if runtime.GOOS == "windows" { // which invents modes
		return 0
	}
	path, err := filepath.EvalSymlinks(path) // Kubernetes mounts secrets with links
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

// An exposure is a file or a directory that others can write to.
type exposure struct {
	path   string
	folder bool
	who    string // "everybody on this host", "the group staff"
	why    string // of a folder: "can be written to by …"
	remedy string // of a folder
}
