package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A descriptorWatch has the files with descriptors read again when they change.
type descriptorWatch struct {
	quiet, longest time.Duration // of fileWatch
	others         chan struct{} // room for one request: the configuration names other files
	running        sync.WaitGroup
	unwatched      string // why the watch may miss changes, as the log tells; only for run
}

func newDescriptorWatch() descriptorWatch {
	return descriptorWatch{quiet: quietTime, longest: longestUnrest, others: make(chan struct{}, 1)}
}

// look has run watch other files. It doesn't wait for it.
func (w *descriptorWatch) look() {
	select {
	case w.others <- struct{}{}:
	default: // the request that waits hasn't begun
	}
}

// run watches until ctx ends.
func (w *descriptorWatch) run(ctx context.Context, d *descriptorFiles) {
	files := newFileWatch(w.quiet, w.longest)
	defer files.close()
	w.look() // a file may have changed since the start
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-files.changed:
			if err != nil {
				d.log.Debug("the kernel may have lost changes of a file with descriptors", "cause", err.Error())
			}
			files.unrest(time.Now())
			continue
		case <-files.timer.C:
			files.rested()
		case <-w.others:
		}
		w.set(files, d.paths(), d.log) // before the reading, or it could miss a change
		d.update(false)
	}
}

// set watches the files. It opens the watch with the first ones: the kernel has only so
// many.
func (w *descriptorWatch) set(files *fileWatch, paths []string, log *slog.Logger) {
	var err error
	if files.kernel == nil && len(paths) > 0 {
		err = files.open()
	}
	if err == nil {
		err = files.set(paths)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if err != nil && text != w.unwatched {
		log.Warn("can't watch the files with descriptors: send SIGHUP after a change", "cause", text, "hint", unwatchedHint(err))
	}
	w.unwatched = text
}
