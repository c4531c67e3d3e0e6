package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/viper"
)

// Loaded is a configuration with the source of each value.
type Loaded struct {
	Config

	// File is the file that Load read, or "".
	File string

	// References are the files that values of File name with "file:".
	References []Reference

	// Warnings are about valid values that are probably mistakes or dangers, each
	// with place and remedy.
	Warnings []string

	origins map[string]origin // of the keys that are set
	derived map[string]string // for a key that a check set, the key that is the reason
	source  source
	compact bool // it is one of Compact

	mistakes []error // that the running checks have found
}

// A Reference is a value in a file of its own.
type Reference struct{ Key, File string }

// An origin is the source of a value: a flag, a variable, or a line of the
// file.
type origin struct {
	place  string
	inFile bool
	secret bool   // the file has a reference there, to a variable or to another file
	name   string // what stands in the file there, if not the key's name
}

// IsSet reports whether a flag, a variable or the file sets the key
// ("log.level", "listen[1].address").
func (l *Loaded) IsSet(key string) bool {
	_, set := l.origins[key]
	return set
}

// Errorf returns an error about the value of a key. It begins with the source
// of the value: "proxy.yaml:12: listen: …", "--listen: …".
func (l *Loaded) Errorf(key, format string, args ...any) error {
	return fmt.Errorf("%s: %w", l.Place(key), fmt.Errorf(format, args...))
}

// Place returns the source of a key's value, and the key's name unless the
// source is a flag or a variable. For an unset key of an entry it returns the
// place of the entry.
func (l *Loaded) Place(key string) string {
	switch o, set := l.origins[key]; {
	case set && o.inFile:
		return o.place + ": " + cmp.Or(o.name, key)
	case set:
		return o.place
	case !strings.Contains(key, "["):
		return key
	}
	if from := l.Source(key); from != key {
		return l.Place(from)
	}
	list, _, _ := strings.Cut(key, "[")
	entry := key[:strings.LastIndexByte(key, ']')+1]
	switch o, set := l.origins[entry]; {
	case set && o.inFile && o.name == "":
		return o.place + ": " + key
	case set:
		return l.Place(entry)
	default: // the list is the default
		return list
	}
}

// Options change how Load reads.
type Options struct {
	// RegularFiles refuses a file that isn't a regular one, and a file that
	// changes while Load reads it. A pipe can be read only once, and may block.
	RegularFiles bool

	// SkipUnknownKeys warns of keys in the file that culvert doesn't know, and
	// ignores them, so that an older version can read a newer file. Without it,
	// they are mistakes.
	SkipUnknownKeys bool
}

// Load reads the file, the environment and the flags. If file is "",
// CULVERT_CONFIG names it. flags has the given flags by the names of their
// keys: a string, or a []string for a list. A list in flags replaces the
// file's.
//
// The error has a line for each mistake. The result has the names of the files that
// Load read in this case, too.
func Load(o Options, file string, flags map[string]any) (*Loaded, error) {
	file = cmp.Or(file, os.Getenv(FileVariable))
	s := source{options: o, flags: flags, texts: make(map[string][]byte), variables: make(map[string]string)}
	return s.load(file, s.first())
}

func (s *source) load(file string, w world) (*Loaded, error) {
	l := &Loaded{File: file, origins: map[string]origin{}, derived: map[string]string{}, source: *s}
	doc, errs := readFile(s.options, file, w)
	l.References, l.Warnings = doc.references, doc.warnings
	errs = append(errs, checkEnvironment(os.Environ())...)
	errs = append(errs, checkFlags(s.flags)...)
	if len(errs) > 0 { // the checks below need valid values
		return l, errors.Join(errs...)
	}
	if err := l.merge(doc, s.flags); err != nil {
		return l, err
	}
	return l, l.check()
}

// LoadKeys is Load for some keys with a single value; the other keys have their
// defaults. It ignores mistakes in other keys, because they don't matter to a
// caller that needs only these. It reads the file once. If it can't, and needs the
// file only for keys after the first one, these have their defaults.
func LoadKeys(names []string, file string, flags map[string]any) (*Loaded, error) {
	file = cmp.Or(file, os.Getenv(FileVariable))
	l := &Loaded{Config: Defaults(), File: file, origins: map[string]origin{}}
	doc, errs := readFile(Options{}, file, world{lookup: os.LookupEnv, read: readBounded})
	for i, name := range names {
		unreadable := errs
		if i > 0 && len(doc.lines) == 0 {
			unreadable = nil
		}
		if err := l.loadKey(name, doc, unreadable, flags); err != nil {
			return l, err
		}
	}
	return l, nil
}

// loadKey sets one key. errs are the mistakes in the file.
func (l *Loaded) loadKey(name string, doc document, errs []error, flags map[string]any) error {
	k := fileKeys.key(name)
	o, set := originOf(k, l.File, doc, flags)
	switch {
	case !set && len(errs) > 0 && len(doc.lines) == 0: // the file can't be read, so it may set the key
		return errors.Join(errs...)
	case !set:
		return nil
	}
	l.origins[name] = o
	text, given := flags[name].(string)
	switch {
	case o.inFile:
		var ok bool
		if text, ok = doc.value(name); !ok {
			return errors.Join(errs...)
		}
	case !given:
		text = os.Getenv(k.Env)
	}
	if err := k.Check(text); err != nil {
		return l.Errorf(name, "%w", err)
	}
	return k.set(reflect.ValueOf(&l.Config).Elem(), text)
}

func readFile(o Options, file string, w world) (document, []error) {
	if file == "" {
		return document{}, nil
	}
	data, err := w.read(file)
	if err != nil {
		return document{}, []error{fmt.Errorf("configuration: %w: check --config or %s", err, FileVariable)}
	}
	return parse(o, fileKeys, file, data, w)
}

// CheckFlags returns an error with a line for each wrong value of a flag. Load
// reports them, too.
func CheckFlags(flags map[string]any) error { return errors.Join(checkFlags(flags)...) }

func checkFlags(flags map[string]any) []error {
	var errs []error
	for _, k := range fileKeys.keys {
		given, ok := flags[k.Name]
		if !ok {
			continue
		}
		values, isList := given.([]string)
		if !isList {
			values = []string{fmt.Sprint(given)}
		}
		for _, v := range values {
			if err := k.Check(v); err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", k.Flag, err))
			}
		}
	}
	return errs
}

// merge has viper choose the source of each value, and sets the fields. All
// values are checked text by now, so parsing them again succeeds.
func (l *Loaded) merge(doc document, flags map[string]any) error {
	v := viper.New()
	defaults := Defaults()
	for _, k := range fileKeys.keys {
		v.SetDefault(k.Name, k.text(reflect.ValueOf(&defaults).Elem()))
		if k.Env != "" {
			if err := v.BindEnv(k.Name, k.Env); err != nil {
				return err
			}
		}
		if given, ok := flags[k.Name]; ok {
			v.Set(k.Name, given)
		}
	}
	if err := v.MergeConfigMap(doc.values); err != nil {
		return err
	}
	for _, k := range fileKeys.keys {
		if err := k.set(reflect.ValueOf(&l.Config).Elem(), v.Get(k.Name)); err != nil {
			return fmt.Errorf("BUG: config: %s: %w", k.Name, err)
		}
		if o, set := originOf(k, l.File, doc, flags); set {
			l.origins[k.Name] = o
			if k.entries != nil {
				l.entryOrigins(k, o, doc)
				l.warnOfReplaced(k, o, doc)
			}
		}
	}
	l.mergeStandard()
	l.inherit()
	return nil
}

// originOf returns the source that viper chooses: flag, variable, file.
func originOf(k Key, file string, doc document, flags map[string]any) (o origin, set bool) {
	if _, ok := flags[k.Name]; ok {
		return origin{place: "--" + k.Flag}, true
	}
	if k.Env != "" && os.Getenv(k.Env) != "" {
		return origin{place: k.Env}, true
	}
	if line, ok := doc.lines[k.Name]; ok {
		return origin{place: file + ":" + strconv.Itoa(line), inFile: true, secret: doc.referred[k.Name]}, true
	}
	return origin{}, false
}

// warnOfReplaced warns of a list of sections in the file if a flag or a variable replaces
// it: the list may have rules, such as tls, that then have no effect.
func (l *Loaded) warnOfReplaced(k Key, o origin, doc document) {
	list, isList := doc.values[k.Name].([]section)
	if _, short := k.shortForm(list); o.inFile || !isList || short || len(list) == 0 {
		return
	}
	l.Warnings = append(l.Warnings, fmt.Sprintf("%s: replaces the list %s in %s:%d: the entries in the file, with keys such as tls, have no effect. Remove one of the two",
		o.place, k.Name, l.File, doc.lines[k.Name]))
}

// set parses a value into the key's field of its struct: a string, a []string
// or a []section.
func (k Key) set(of reflect.Value, value any) error {
	field := of.FieldByIndex(k.index)
	if k.entries != nil {
		list, err := k.longForm(value)
		if err != nil {
			return err
		}
		return k.setEntries(field, list)
	}
	if !k.List {
		v, err := k.kind.parse(fmt.Sprint(value))
		if err != nil {
			return err
		}
		field.Set(reflect.ValueOf(v))
		return nil
	}
	texts, ok := value.([]string)
	if text, variable := value.(string); variable {
		texts, ok = k.split(text), true
	}
	if !ok {
		return fmt.Errorf("%T is no list", value)
	}
	list := reflect.MakeSlice(field.Type(), 0, len(texts))
	for _, t := range texts {
		v, err := k.kind.parse(t)
		if err != nil {
			return err
		}
		list = reflect.Append(list, reflect.ValueOf(v))
	}
	if len(texts) > 0 || k.path != k.Name { // an empty list stays nil, as in Defaults; in an entry it is one that is set
		field.Set(list)
	}
	return nil
}

// text returns the key's value in its struct in the form of a file: a string,
// a []string for a list, or a []section for a list of sections.
func (k Key) text(of reflect.Value) any {
	field := of.FieldByIndex(k.index)
	switch {
	case k.entries != nil:
		return k.entriesText(of)
	case !k.List:
		return fmt.Sprint(field.Interface())
	}
	list := make([]string, field.Len())
	for i := range list {
		list[i] = fmt.Sprint(field.Index(i).Interface())
	}
	return list
}

// maxFileBytes limits the configuration file and the files of references.
const maxFileBytes = 8 << 20

func readBounded(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // the operator names the file, in a flag or in the configuration
	if err != nil {
		return nil, fileError(name, err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.Mode()&fs.ModeNamedPipe != 0:
		return readPipe(name, f, pipePatience)
	case info.Mode()&fs.ModeCharDevice != 0:
		return readDevice(name, f, pipePatience)
	}
	return readOpen(name, f)
}

// readDevice reads a device, such as a terminal, on which somebody may type or not.
func readDevice(name string, f *os.File, patience time.Duration) ([]byte, error) {
	_ = f.SetReadDeadline(time.Now().Add(patience)) // a device that has none never waits, such as /dev/null
	data, err := readOpen(name, f)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("%s: is a device, and its end hasn't come within %v: name a regular file", name, patience)
	}
	return data, err
}

// pipePatience limits how long a pipe may take, since its writer may never come. A shell's
// "--config <(…)" is a pipe.
const pipePatience = 5 * time.Second

// readPipe reads a pipe that was opened without waiting for its writer.
func readPipe(name string, f *os.File, patience time.Duration) ([]byte, error) {
	late := func() error {
		return fmt.Errorf("%s: is a pipe, and no program has written it to its end within %v: start the writer first, or name a regular file", name, patience)
	}
	end := time.Now().Add(patience)
	if err := f.SetReadDeadline(end); err != nil {
		return nil, fileError(name, err)
	}
	for {
		data, err := readOpen(name, f)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, late()
		case err != nil || len(data) > 0:
			return data, err
		case time.Now().After(end):
			return nil, late()
		}
		time.Sleep(pipePause) // an end without data: the writer isn't there yet, and nothing tells when it comes
	}
}

const pipePause = 20 * time.Millisecond

// readRegular is readBounded for a regular file that other programs may write
// to meanwhile. It never waits for the writer of a pipe.
func readRegular(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // as above
	if err != nil {
		return nil, fileError(name, err)
	}
	defer func() { _ = f.Close() }() // only read
	return readStill(name, f)
}

// readStill reads a file that nobody writes to meanwhile.
func readStill(name string, f fs.File) ([]byte, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fileError(name, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file, so culvert can't read it again", name)
	}
	data, err := readOpen(name, f)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	switch {
	case err != nil:
		return nil, fileError(name, err)
	case after.Size() != int64(len(data)) || !after.ModTime().Equal(info.ModTime()):
		return nil, fmt.Errorf("%s: somebody wrote to the file while culvert read it", name)
	}
	return data, nil
}

// fileError returns "name: cause" instead of "open name: cause".
func fileError(name string, err error) error {
	if perr, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", name, perr.Err)
	}
	return err
}

func readOpen(name string, f io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, fileError(name, err)
	case len(data) > maxFileBytes:
		return nil, fmt.Errorf("%s: larger than 8 MiB", name)
	}
	return data, nil
}
