package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long the files must be quiet before culvert reads them. Editors and the
// kubelet replace a file in several steps, and a program may write it in pieces. If
// files are never quiet, culvert reads them at last after longestUnrest.
const (
	quietTime     = 200 * time.Millisecond
	longestUnrest = 2 * time.Second
)

// maxFollowed is the kernel's limit for symbolic links in a path.
const maxFollowed = 40

// A fileWatch notices that files may have changed. It watches directories, because a
// watch of a file stays with the old one when another takes its name. It belongs to
// one goroutine.
type fileWatch struct {
	kernel *fsnotify.Watcher // nil: not open, or the kernel refused one
	names  map[string]bool   // the directory entries and directories that matter

	quiet, longest time.Duration
	timer          *time.Timer
	since          time.Time // of the first event that waits for the timer; zero: none does
}

// newFileWatch returns a watch that notices nothing before open.
func newFileWatch(quiet, longest time.Duration) *fileWatch {
	w := &fileWatch{quiet: quiet, longest: longest, timer: time.NewTimer(longest)}
	w.timer.Stop()
	return w
}

// open begins to watch. With an error, the watch still notices nothing.
func (w *fileWatch) open() (err error) {
	w.kernel, err = fsnotify.NewWatcher()
	return err
}

func (w *fileWatch) close() {
	w.timer.Stop()
	if w.kernel != nil {
		_ = w.kernel.Close() // it has nothing to lose
	}
}

// events returns the channel of events, nil if there are none.
func (w *fileWatch) events() <-chan fsnotify.Event {
	if w.kernel == nil {
		return nil
	}
	return w.kernel.Events
}

// lost returns the channel of errors, nil if there are none. An error means that
// events may be lost.
func (w *fileWatch) lost() <-chan error {
	if w.kernel == nil {
		return nil
	}
	return w.kernel.Errors
}

// set watches the files, in place of those before. Links on the way to a file may
// have changed, so it is called before each reading. It returns an error if culvert
// may miss changes.
func (w *fileWatch) set(files []string) error {
	if w.kernel == nil {
		return nil // open returned the error
	}
	var err error
	for range maxFollowed {
		entries := lookups(files)
		err = w.add(entries)
		if slices.Equal(entries, lookups(files)) { // nothing changed before the kernel watched it
			break
		}
	}
	return err
}

// add watches the directories of the entries, and no others.
func (w *fileWatch) add(entries []string) error {
	w.names = map[string]bool{}
	var folders []string
	for _, entry := range entries {
		w.names[entry] = true
		if folder := filepath.Dir(entry); !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	var errs []error
	for _, folder := range folders {
		w.names[folder] = true
		// Also if it is watched: another directory may have taken its name.
		if err := w.kernel.Add(folder); err != nil && !errors.Is(err, fs.ErrNotExist) { // set looks again
			errs = append(errs, fmt.Errorf("%s: %w", folder, err))
		}
	}
	for _, folder := range w.kernel.WatchList() {
		if !slices.Contains(folders, folder) {
			_ = w.kernel.Remove(folder) // it may be gone
		}
	}
	return errors.Join(errs...)
}

// notice takes an event, and has the timer fire when the files are quiet.
func (w *fileWatch) notice(e fsnotify.Event, now time.Time) {
	if w.names[filepath.Clean(e.Name)] {
		w.unrest(now)
	}
}

func (w *fileWatch) unrest(now time.Time) {
	if w.since.IsZero() {
		w.since = now
	}
	w.timer.Reset(min(w.quiet, max(0, w.longest-now.Sub(w.since))))
}

// rested ends the time of unrest.
func (w *fileWatch) rested() { w.since = time.Time{} }

// lookups returns the directory entries on the way to the files that decide which
// files these are: their own and those of links. The entry of a directory that is
// missing stands for what is in it. The directories of the entries have no links in
// their names.
func lookups(files []string) (entries []string) {
	for _, file := range files {
		path, err := filepath.Abs(file)
		for range maxFollowed {
			if err != nil || path == "" {
				break
			}
			var entry string
			entry, path = firstLink(path)
			if !slices.Contains(entries, entry) {
				entries = append(entries, entry)
			}
		}
	}
	return entries
}

// firstLink follows an absolute path to its first link, to what is missing, or to its
// end, and returns that entry. It also returns where a link leads to, or "".
func firstLink(path string) (entry, next string) {
	entry = filepath.VolumeName(path) + string(filepath.Separator)
	rest := strings.Split(path[len(entry):], string(filepath.Separator))
	for i, name := range rest {
		entry = filepath.Join(entry, name)
		info, err := os.Lstat(entry)
		if err != nil {
			return entry, ""
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := os.Readlink(entry)
		if err != nil {
			return entry, ""
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(entry), target)
		}
		return entry, filepath.Join(append([]string{target}, rest[i+1:]...)...)
	}
	return entry, ""
}
