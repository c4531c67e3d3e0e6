package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/files"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// A reloader replaces the configuration of a running program: all of it, or
// nothing. Its goroutine, run, does one reload after the other. So a file system
// that doesn't respond keeps culvert neither from serving nor from handling
// signals.
//
// A reload loads the file, compares it with the configuration that runs, has each
// part of the program prepare for it, and commits. Any error before the commit
// leaves everything as it was.
type reloader struct {
	load   func() (*config.Loaded, error) // from the same file, environment and flags as at the start
	parts  []part
	always func() (anything bool) // on SIGHUP, whether the configuration changed or not: certificates, descriptors
	notify func(state string)
	log    *slog.Logger

	// reloaded is called after each reload that changed the configuration, was
	// rejected, or ended a rejection. It may be nil.
	reloaded func(before, now *configState)

	quiet, longest time.Duration   // of files.Watch
	read           []string        // the files of the last attempt; only for run
	later          []string        // the Warnings of the configuration that runs; only for run
	unwatched      files.Unwatched // only for run

	hangup  chan struct{} // room for one request, which stands for all that wait
	state   atomic.Pointer[configState]
	running sync.WaitGroup
}

// A part is a part of the program that takes a new configuration. It prepares for
// the change from running, which is compact, to next, and returns an error if it can't
// take next. One of commit and undo is called later, and can't fail. Each may be nil.
type part func(running, next *config.Loaded) (commit, undo func(), err error)

// A configState tells which configuration runs, and why a newer one doesn't. It
// never changes.
type configState struct {
	*config.Loaded           // the configuration that runs, compact
	version        string    // its hash
	since          time.Time // when it began to run

	// rejected is about the last attempt, if that failed; nil otherwise.
	rejected *rejection
}

// A rejection is the reason why culvert doesn't run the newest file.
type rejection struct {
	at    time.Time
	cause error    // with file, line and remedy, and without secrets
	keys  []string // that need a restart; nil: the file is wrong

	changed []string // keys that have other values in the file; nil: it can't be read
}

func newReloader(c *config.Loaded, load func() (*config.Loaded, error), log *slog.Logger) *reloader {
	r := &reloader{load: load, log: log, always: func() bool { return false }, notify: func(string) {}, hangup: make(chan struct{}, 1), quiet: files.QuietTime, longest: files.LongestUnrest}
	r.state.Store(&configState{Loaded: c.Compact(), version: c.Version(), since: time.Now()})
	return r
}

func (r *reloader) current() *configState { return r.state.Load() }

// request asks for a reload by SIGHUP. It doesn't wait for it.
func (r *reloader) request() { files.Ask(r.hangup) }

// start runs the reloader until ctx ends. wait waits for its end.
func (r *reloader) start(ctx context.Context) { r.running.Go(func() { r.run(ctx) }) }

func (r *reloader) wait() { r.running.Wait() }

func (r *reloader) run(ctx context.Context) {
	w := files.NewWatch(r.quiet, r.longest)
	defer w.Close()
	again := r.readsAgain()
	if again {
		r.tellUnwatched(w.Open())
		r.look(w, false) // the file may have changed since the start
	}
	lost := func(err error) {
		r.log.Debug("the kernel may have lost changes of the configuration file", "cause", err.Error())
	}
	w.Follow(ctx, lost, func() { r.look(w, false) }, r.hangup, func() {
		r.notify(reloadingState())
		if again {
			r.look(w, true)
		}
		if !r.always() && !again {
			r.log.Warn("nothing to reload: culvert has no configuration file that it can read again, and no certificates or descriptors", "signal", "hangup")
		}
		r.notify("READY=1")
	})
}

// readsAgain reports whether there is a file, and neither it nor a file of a value is a
// pipe.
func (r *reloader) readsAgain() bool {
	return r.current().File != "" && !slices.ContainsFunc(r.current().Files(), func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice|fs.ModeSocket) != 0
	})
}

// look reloads files that may have changed. It watches them before it reads them, or
// it could miss a change.
func (r *reloader) look(w *files.Watch, asked bool) {
	for range 3 { // the files of a file that changes each time can wait
		read := r.files()
		r.tellUnwatched(w.Set(read))
		r.reload(asked)
		if slices.Equal(read, r.files()) {
			return
		}
		asked = false
	}
}

// files returns the files of the configuration that runs and of the one that was
// read last.
func (r *reloader) files() []string {
	all := r.current().Files()
	for _, file := range r.read {
		if !slices.Contains(all, file) {
			all = append(all, file)
		}
	}
	return all
}

func (r *reloader) tellUnwatched(err error) {
	r.unwatched.Tell(r.log, "can't watch the configuration file: send SIGHUP after a change", err, "file", r.current().File)
}

// reload loads the file and applies it. asked means that the operator asked for
// the reload and wants an answer: without news, too.
func (r *reloader) reload(asked bool) {
	running := r.current()
	next, err := r.load()
	if next != nil {
		r.read = next.Files()
	}
	switch {
	case err != nil:
		next = nil // it may be half of what the file has
	case running.FileSets() && !next.FileSets(): // somebody truncated it to write it anew
		err = fmt.Errorf("%s: the file sets no key any more, so culvert takes it for one that is being written: to go back to the defaults, restart culvert", next.File)
	case wiring.LacksBackend(next):
		err = wiring.ErrNoBackend
	case next.Version() == running.version:
		r.unchanged(running, next, asked)
	default:
		err = r.apply(running, next)
	}
	if err != nil {
		r.reject(running, next, err, asked)
	}
}

func (r *reloader) apply(running *configState, next *config.Loaded) error {
	changed := config.Changed(running.Whole(), next)
	fixed := slices.DeleteFunc(slices.Clone(changed), func(key string) bool { return !config.NeedsRestart(key) })
	if len(fixed) > 0 {
		return wiring.NeedRestart(next, fixed)
	}
	var commits, undos []func()
	for _, prepare := range r.parts {
		commit, undo, err := prepare(running.Loaded, next)
		if err != nil {
			for _, undo := range slices.Backward(undos) {
				undo()
			}
			return err
		}
		if commit != nil {
			commits = append(commits, commit)
		}
		if undo != nil {
			undos = append(undos, undo)
		}
	}
	for _, commit := range commits {
		commit()
	}
	s := &configState{Loaded: next.Compact(), version: next.Version(), since: time.Now()}
	r.state.Store(s)
	later := Warnings(next)
	warn(r.log, slices.Concat(next.Warnings, later), slices.Concat(running.Warnings, r.later))
	r.later = later
	r.log.Info("configuration reloaded", "file", next.File, "version", s.version, "before", running.version, "changed", firstOf(changed, " "))
	r.tell(running, s)
	return nil
}

// warn logs the warnings that the operator hasn't seen before.
func warn(log *slog.Logger, warnings, before []string) {
	for _, w := range warnings {
		if !slices.Contains(before, w) {
			log.Warn("configuration", "warning", w)
		}
	}
}

// unchanged ends a reload of a file that has the effect of the configuration that
// runs. The file may have other warnings, such as those of unknown keys.
func (r *reloader) unchanged(running *configState, next *config.Loaded, asked bool) {
	s := *running
	s.Loaded, s.rejected = next.Compact(), nil
	r.state.Store(&s)
	warn(r.log, next.Warnings, running.Warnings)
	if running.rejected == nil && !asked {
		return
	}
	r.log.Info("configuration unchanged: the file has the same effect as the one that runs", "file", s.File, "version", s.version)
	if running.rejected != nil {
		r.tell(running, &s)
	}
}

// reject keeps the configuration that runs. next is what the file has; nil: it can't be read.
func (r *reloader) reject(running *configState, next *config.Loaded, err error, asked bool) {
	news := running.rejected == nil || running.rejected.cause.Error() != err.Error()
	s := *running
	s.rejected = &rejection{at: time.Now(), cause: err}
	if restart, ok := errors.AsType[*wiring.RestartError](err); ok {
		s.rejected.keys = restart.Keys
	}
	if next != nil {
		s.rejected.changed = config.Changed(running.Whole(), next)
	}
	r.state.Store(&s)
	if news || asked {
		r.log.Warn("configuration not reloaded: culvert continues with the old one", "file", s.File, "version", s.version, "cause", firstOf(strings.Split(err.Error(), "\n"), "\n"))
		r.tell(running, &s)
	}
}

// maxTold is how many keys or mistakes a line of the log has. The journal cuts a line of
// 48 KiB.
const maxTold = 10

// firstOf joins the first texts, and says how many more there are.
func firstOf(all []string, separator string) string {
	if more := len(all) - maxTold; more > 0 {
		return strings.Join(all[:maxTold], separator) + separator + fmt.Sprintf("and %d more", more)
	}
	return strings.Join(all, separator)
}

func (r *reloader) tell(before, now *configState) {
	if r.reloaded != nil {
		r.reloaded(before, now)
	}
}

// problems returns a line if a newer configuration was rejected, without the cause:
// other hosts may read the line, and the cause may quote the file.
func (r *reloader) problems() []string {
	if s := r.current(); s.rejected != nil {
		return []string{fmt.Sprintf("the newest configuration in %s isn't in use: the log says why", s.File)}
	}
	return nil
}
