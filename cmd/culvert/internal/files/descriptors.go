package files

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// Descriptors are the files of backend.descriptors, by their paths. A file keeps its
// value in the map while a configuration names it, so that the backends that have it keep
// their connections when it changes. Its Follower reads files that change.
type Descriptors struct {
	*Follower
	files atomic.Pointer[map[string]*descriptorFile] // a map never changes
}

// A descriptorFile is a bridge.DescriptorSource: the newest right version of a file.
type descriptorFile struct {
	path    string
	current atomic.Pointer[bridge.Descriptors] // never nil

	reading sync.Mutex        // held while the file is read, and for what is read
	sum     [sha256.Size]byte // of the version in current

	mu      sync.Mutex
	place   wiring.BackendPlace // in the configuration that runs; the first, if several backends have the file
	problem error               // why the newest version isn't in use; nil: it is
}

func (f *descriptorFile) Descriptors() bridge.Descriptors { return *f.current.Load() }

// OpenDescriptors reads the files of a configuration.
func OpenDescriptors(c *config.Loaded, log *slog.Logger) (*Descriptors, error) {
	files, _, err := openFiles(c, nil)
	d := new(Descriptors)
	d.Follower = NewFollower(log, "can't watch the files with descriptors: send SIGHUP after a change", "the kernel may have lost changes of a file with descriptors",
		d.paths, func(bool) { d.update(false) })
	d.files.Store(&files)
	return d, err
}

// openFiles returns the files of a configuration: those of before, and new ones. It
// also returns their places.
func openFiles(c *config.Loaded, before map[string]*descriptorFile) (files map[string]*descriptorFile, places map[string]wiring.BackendPlace, err error) {
	files, places = map[string]*descriptorFile{}, map[string]wiring.BackendPlace{}
	var errs []error
	for _, b := range c.BackendSections() {
		path := b.Descriptors
		if _, known := places[path]; path == "" || known {
			continue
		}
		place := wiring.BackendPlace{Config: c.Compact(), Section: b.Section}
		f := before[path]
		if f == nil {
			f = &descriptorFile{path: path, place: place}
			if _, err := f.read(); err != nil {
				errs = append(errs, place.Placed("descriptors", err))
			}
		}
		files[path], places[path] = f, place
	}
	return files, places, errors.Join(errs...)
}

// Describe sets the descriptors of the backends of a configuration. Backends without a
// file are asked by server reflection.
func (d *Descriptors) Describe(backends []bridge.NamedBackend, c *config.Loaded) {
	files := d.all()
	for i, b := range c.BackendSections() { // in the order of backends
		if b.Descriptors != "" {
			backends[i].Descriptors = files[b.Descriptors]
		}
	}
}

// Change is the part of a reload that opens the files of next. Describe has them at once,
// so undo follows if the backends don't change.
func (d *Descriptors) Change(_, next *config.Loaded) (commit, undo func(), err error) {
	before := d.files.Load()
	after, places, err := openFiles(next, *before)
	if err != nil {
		return nil, nil, err
	}
	d.files.Store(&after)
	commit = func() {
		for path, f := range after {
			f.mu.Lock()
			f.place = places[path]
			f.mu.Unlock()
		}
		d.Ask()
	}
	return commit, func() { d.files.Store(before) }, nil
}

func (d *Descriptors) all() map[string]*descriptorFile { return *d.files.Load() }

func (d *Descriptors) paths() []string { return slices.Sorted(maps.Keys(d.all())) }

// Reload reads all files again, for an operator who asks for it. It reports whether there
// are any.
func (d *Descriptors) Reload() (anything bool) {
	d.update(true)
	return len(d.all()) > 0
}

func (d *Descriptors) update(asked bool) {
	files := d.all()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		files[path].update(d.log, asked)
	}
}

// Problems returns a line for each file whose newest version is wrong.
func (d *Descriptors) Problems() (lines []string) {
	files := d.all()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := files[path].wrong(); err != nil {
			lines = append(lines, err.Error())
		}
	}
	return lines
}

// wrong returns why the newest version isn't in use, with the place.
func (f *descriptorFile) wrong() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.problem == nil {
		return nil
	}
	return f.place.Placed("descriptors", f.problem)
}

// update reads the file again. If it is wrong, the version before stays in use. asked
// means that an operator wants an answer: without news, too.
func (f *descriptorFile) update(log *slog.Logger, asked bool) {
	f.reading.Lock()
	defer f.reading.Unlock()
	changed, err := f.read()
	f.mu.Lock()
	before, place := f.problem, f.place
	f.problem = err
	f.mu.Unlock()
	if err != nil {
		if asked || before == nil || before.Error() != err.Error() {
			log.Warn("descriptors not reloaded: culvert continues with the old ones", "cause", place.Placed("descriptors", err).Error())
		}
		return
	}
	if before != nil {
		log.Info("solved: something was wrong with a file of descriptors", "problem", place.Placed("descriptors", before).Error())
	}
	if changed || asked {
		log.Info("descriptors reloaded", "file", f.path, "services", len((*f.current.Load()).Services()))
	}
}

// read reads the file, and keeps its descriptors if they are right. changed reports
// whether they are others than before. reading is held, except while the file is opened.
func (f *descriptorFile) read() (changed bool, err error) {
	data, err := readRegular(f.path, bridge.MaxDescriptorBytes+1, "not a regular file, so culvert can't read it again")
	if err != nil {
		return false, fmt.Errorf("%s: %w: write the file with protoc --include_imports --descriptor_set_out=FILE, or remove the key, and culvert asks the backend by server reflection", f.path, err)
	}
	sum := sha256.Sum256(data)
	if f.current.Load() != nil && sum == f.sum {
		return false, nil
	}
	set, err := bridge.ParseDescriptors(data)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.sum = sum
	f.current.Store(&set)
	return true, nil
}
