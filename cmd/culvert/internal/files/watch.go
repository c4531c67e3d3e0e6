package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long the files must be quiet before culvert reads them. Editors and the
// kubelet replace a file in several steps, and a program may write it in pieces. If
// files are never quiet, culvert reads them at last after LongestUnrest.
const (
	QuietTime     = 200 * time.Millisecond
	LongestUnrest = 2 * time.Second
)

// maxFollowed is the kernel's limit for symbolic links in a path.
const maxFollowed = 40

// A Watch notices that files may have changed. It watches directories, because a
// watch of a file stays with the old one when another takes its name. It belongs to
// one goroutine.
//
// Another goroutine, receive, does nothing but take what the kernel tells: fsnotify may
// hold the lock that add needs until somebody takes its error. It drops events of other
// files, of which a directory such as /tmp has many.
type Watch struct {
	kernel    *fsnotify.Watcher               // nil: not open, or the kernel refused one
	names     atomic.Pointer[map[string]bool] // the directory entries and directories that matter
	changed   chan error                      // room for one, which stands for all; an error: the kernel may have lost events
	receiving sync.WaitGroup

	quiet, longest time.Duration
	timer          *time.Timer
	since          time.Time // of the first event that waits for the timer; zero: none does
}

// NewWatch returns a watch that notices nothing before Open.
func NewWatch(quiet, longest time.Duration) *Watch {
	w := &Watch{quiet: quiet, longest: longest, timer: time.NewTimer(longest), changed: make(chan error, 1)}
	w.timer.Stop()
	return w
}

// Open begins to watch. With an error, the watch still notices nothing.
func (w *Watch) Open() (err error) {
	if w.kernel, err = fsnotify.NewWatcher(); err == nil {
		w.receiving.Go(w.receive)
	}
	return err
}

// Close ends the watch.
func (w *Watch) Close() {
	w.timer.Stop()
	if w.kernel != nil {
		_ = w.kernel.Close() // it has nothing to lose
		w.receiving.Wait()
	}
}

// Follow calls look when the files have changed and are quiet, and answer for a request,
// until ctx ends. It calls lost if the kernel may have lost changes.
func (w *Watch) Follow(ctx context.Context, lost func(error), look func(), requests <-chan struct{}, answer func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-w.changed:
			if err != nil {
				lost(err)
			}
			w.unrest(time.Now())
		case <-w.timer.C:
			w.rested()
			look()
		case <-requests:
			answer()
		}
	}
}

// Ask puts a request into a channel with room for one. It never waits.
func Ask(requests chan<- struct{}) {
	select {
	case requests <- struct{}{}:
	default: // the one that waits hasn't begun, so it reads what is there now
	}
}

// A Follower has files read again when they change. Its goroutine, follow, begins with the
// first file: the kernel has only so many watches.
type Follower struct {
	log             *slog.Logger
	unwatched, lost string             // messages: a file can't be watched, changes of one may be lost
	following       func() []string    // the files that matter now
	read            func(changed bool) // the files: they have changed, or may be others
	requests        chan struct{}      // room for one: there may be other files
	running         sync.WaitGroup

	mu    sync.Mutex
	begin func() // starts follow; nil: Start wasn't called, or follow runs
}

// NewFollower returns a Follower that Start starts. The messages are constants.
func NewFollower(log *slog.Logger, unwatched, lost string, following func() []string, read func(changed bool)) *Follower {
	return &Follower{log: log, unwatched: unwatched, lost: lost, following: following, read: read, requests: make(chan struct{}, 1)}
}

// Start follows the files until ctx ends. Wait waits for the end.
func (f *Follower) Start(ctx context.Context) {
	f.mu.Lock()
	f.begin = func() { f.running.Go(func() { f.follow(ctx) }) }
	f.mu.Unlock()
	f.Ask() // a file may have changed since it was opened
}

// Wait waits for the end of Start's goroutine.
func (f *Follower) Wait() { f.running.Wait() }

// Ask has the files read and watched, which may be others. It doesn't wait for that.
func (f *Follower) Ask() {
	some := len(f.following()) > 0
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begin != nil && some {
		f.begin()
		f.begin = nil
	}
	Ask(f.requests)
}

func (f *Follower) follow(ctx context.Context) {
	w := NewWatch(QuietTime, LongestUnrest)
	defer w.Close()
	var unwatched Unwatched
	look := func(changed bool) {
		var err error
		if w.kernel == nil {
			err = w.Open()
		}
		if err == nil {
			err = w.Set(f.following()) // before the reading, or it could miss a change
		}
		unwatched.Tell(f.log, f.unwatched, err)
		f.read(changed)
	}
	lost := func(err error) { f.log.Debug(f.lost, "cause", err.Error()) } //nolint:sloglint // the messages are constants
	w.Follow(ctx, lost, func() { look(true) }, f.requests, func() { look(false) })
}

// readRegular reads a regular file, and no more than limit bytes. irregular is the error of
// another one. Errors don't have the path.
func readRegular(path string, limit int64, irregular string) ([]byte, error) {
	info, err := os.Stat(path) // opening a pipe could wait for ever
	if err == nil && !info.Mode().IsRegular() {
		return nil, errors.New(irregular)
	}
	var file *os.File
	if err == nil {
		file, err = os.Open(path)
	}
	var data []byte
	if err == nil {
		defer func() { _ = file.Close() }() // only read
		data, err = io.ReadAll(io.LimitReader(file, limit))
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return data, err
}

// Unwatched is why a watch may miss changes, as the log tells.
type Unwatched string

// Tell logs the reason, once.
func (u *Unwatched) Tell(log *slog.Logger, msg string, err error, attrs ...any) {
	before := *u
	if *u = ""; err == nil {
		return
	}
	if *u = Unwatched(err.Error()); *u != before {
		log.Warn(msg, append(attrs, "cause", err.Error(), "hint", unwatchedHint(err))...) //nolint:sloglint // the callers' messages are constants
	}
}

// unwatchedHint returns the remedy for limits of inotify(7).
func unwatchedHint(err error) string {
	switch {
	case errors.Is(err, syscall.EMFILE):
		return "raise fs.inotify.max_user_instances (sysctl) or the limit of open files"
	case errors.Is(err, syscall.ENOSPC):
		return "raise fs.inotify.max_user_watches (sysctl)"
	}
	return "allow culvert to read the directory"
}

// A busy directory would wake culvert for each of its events. So receive lets them gather
// in the kernel, which has room for 16,384, and takes many at once.
const (
	gatherTime = 50 * time.Millisecond // less than QuietTime
	takeTime   = 2 * time.Millisecond
)

// receive takes what the kernel tells until Close.
func (w *Watch) receive() {
	for {
		if _, open := w.take(nil); !open {
			return
		}
		time.Sleep(gatherTime)
		over := time.NewTimer(takeTime)
		for more := true; more; {
			var open bool
			if more, open = w.take(over.C); !open {
				return
			}
		}
	}
}

// take waits for an event or an error, unless the time is over. open reports whether more
// may come.
func (w *Watch) take(over <-chan time.Time) (taken, open bool) {
	select {
	case e, open := <-w.kernel.Events:
		if names := w.names.Load(); open && names != nil && (*names)[filepath.Clean(e.Name)] {
			w.tell(nil)
		}
		return true, open
	case err, open := <-w.kernel.Errors:
		if open {
			w.tell(err)
		}
		return true, open
	case <-over:
		return false, true
	}
}

// tell never waits: what is already in changed makes culvert look at all files.
func (w *Watch) tell(err error) {
	select {
	case w.changed <- err:
	default:
	}
}

// Set watches the files, in place of those before. Links on the way to a file may
// have changed, so it is called before each reading. It returns an error if culvert
// may miss changes.
func (w *Watch) Set(files []string) error {
	if w.kernel == nil {
		return nil // Open returned the error
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
func (w *Watch) add(entries []string) error {
	names := map[string]bool{}
	var folders []string
	for _, entry := range entries {
		folder := filepath.Dir(entry)
		names[entry], names[folder] = true, true
		if !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	w.names.Store(&names)
	var errs []error
	for _, folder := range folders {
		// Also if it is watched: another directory may have taken its name.
		if err := w.kernel.Add(folder); err != nil && !errors.Is(err, fs.ErrNotExist) { // Set looks again
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

// unrest has the timer fire when the files are quiet.
func (w *Watch) unrest(now time.Time) {
	if w.since.IsZero() {
		w.since = now
	}
	w.timer.Reset(min(w.quiet, max(0, w.longest-now.Sub(w.since))))
}

func (w *Watch) rested() { w.since = time.Time{} }

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
		if info.Mode()&fs.ModeSymlink != 0 {
			return entry, followLink(entry, rest[i+1:])
		}
	}
	return entry, ""
}

// followLink returns the path of what has the names in rest behind a link, or "".
func followLink(link string, rest []string) string {
	target, err := os.Readlink(link)
	if err != nil {
		return ""
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(link), target)
	}
	return filepath.Join(append([]string{target}, rest...)...)
}
