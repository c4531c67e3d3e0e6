package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/descriptor"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// reflectPatience bounds the answer to one question of server reflection.
const reflectPatience = 15 * time.Second

// maxJSONCost bounds the memory that showing one message takes.
const maxJSONCost = 1 << 30

// A book has descriptors: of files, or by server reflection.
type book struct {
	c     *caller
	files []*descriptor.Set     // that were given
	ask   descriptor.Reflection // nil: files were given

	set   *descriptor.Set // that has the method
	named descriptor.Named
	also  []*descriptor.Set // in named
}

// newBook returns the book of the files that were given, or else one that asks by a way.
func (c *caller) newBook(w way) (*book, error) {
	b := &book{c: c}
	for _, name := range c.cfg.ProtoSets {
		set, err := readSet(name)
		if err != nil {
			return nil, &Misuse{err}
		}
		b.files = append(b.files, set)
	}
	b.named.Put(b.files, time.Time{})
	if b.files == nil {
		b.ask = c.reflection(w)
	}
	return b, nil
}

const writeSet = "write descriptors with protoc --include_imports --descriptor_set_out=FILE, or buf build -o FILE"

func readSet(name string) (*descriptor.Set, error) {
	if strings.HasSuffix(name, ".proto") {
		return nil, fmt.Errorf("--protoset: %s is a source file, which culvert doesn't compile: %s", name, writeSet)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--protoset: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, descriptor.MaxSetBytes+1))
	if err != nil {
		return nil, fmt.Errorf("--protoset: %w", err)
	}
	set, err := descriptor.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("--protoset: %s: %w", name, err)
	}
	return set, nil
}

// maxSaid bounds what is shown of the text of a status, in bytes.
const maxSaid = 300

// errNoReflection reports a server without reflection.
var errNoReflection = errors.New("the server has no reflection, so the types of its messages aren't known: give them with --protoset FILE (" + writeSet + ")")

// reflection returns the questions of server reflection by a way. Each question is a call of
// its own, with one message: not every way streams both ways.
func (c *caller) reflection(w way) descriptor.Reflection {
	path := descriptor.ReflectionV1
	return func(ctx context.Context, question []byte, read func([]byte) error) error {
		c.watch.wait("the descriptors from "+c.target.Address()+" (server reflection)", false)
		err := c.askOnce(ctx, w, path, question, read)
		if path == descriptor.ReflectionV1 && isUnimplemented(err) {
			c.trace.say(note, "no reflection v1: asking v1alpha")
			path = descriptor.ReflectionV1Alpha
			err = c.askOnce(ctx, w, path, question, read)
		}
		if isUnimplemented(err) {
			e, ok := errors.AsType[*reflectionError](err)
			switch {
			case !ok: // it may be another server
				return fmt.Errorf("%w; %w", errNoReflection, err)
			case e.status.Message() != "":
				return fmt.Errorf("%w; it answered %q", errNoReflection, terminal.Short(e.status.Message(), maxSaid))
			}
			return errNoReflection
		}
		return err
	}
}

func (c *caller) askOnce(ctx context.Context, w way, path string, question []byte, read func([]byte) error) error {
	if len(c.cfg.Words) > 0 && c.cfg.Words[0] != "list" && c.cfg.Words[0] != "describe" { // people look at their own call
		c.trace.mute(true)
		defer c.trace.mute(false)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reflectPatience, fmt.Errorf("no descriptors within %s", reflectPatience))
	defer cancel()
	c.trace.say(note, "asking for descriptors, by server reflection")
	s, err := w.open(ctx, &request{path: path, metadata: c.metadata, single: true, streams: true})
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(s.send(question), s.closeSend()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := s.header(); err != nil {
		return because(ctx, err)
	}
	answer, err := s.recv()
	if err == nil {
		if err := read(answer); err != nil {
			return err
		}
		_, err = s.recv() // the end
		if err == nil {
			return errors.New("server reflection: more than one answer to a question")
		}
	}
	if !errors.Is(err, io.EOF) {
		return because(ctx, err)
	}
	if st, _ := s.end(); st.Code() != codes.OK {
		return &reflectionError{st}
	}
	if answer == nil {
		return errors.New("server reflection: no answer to a question")
	}
	return nil
}

// A reflectionError is a status of server reflection.
type reflectionError struct{ status *status.Status }

func (e *reflectionError) Error() string {
	text := "server reflection ended with " + codec.StatusName(e.status.Code())
	if m := e.status.Message(); m != "" {
		text += ": " + terminal.Text(m)
	}
	return text
}

// isUnimplemented reports whether a server doesn't have a method.
func isUnimplemented(err error) bool {
	if e, ok := errors.AsType[*reflectionError](err); ok {
		return e.status.Code() == codes.Unimplemented
	}
	if e, ok := errors.AsType[*foreignAnswer](err); ok {
		return e.code() == codes.Unimplemented
	}
	e, ok := errors.AsType[*brokenError](err)
	return ok && e.code == codes.Unimplemented
}

// Method returns the method of a path.
func (b *book) method(ctx context.Context, path string) (*descriptor.Method, error) {
	service, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if err := b.find(ctx, service); err != nil {
		return nil, err
	}
	m, err := b.set.Method(path)
	if e, ok := errors.AsType[*descriptor.UnknownMethodError](err); ok {
		text := fmt.Sprintf("the service %s has no method %s", service, e.Method)
		if near := e.Near(); len(near) > 0 {
			text += fmt.Sprintf(": did you mean %s?", strings.Join(near, " or "))
		} else {
			text += ": list " + service + " names its methods"
		}
		return nil, errors.New(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &m, nil
}

// find looks for the set that has a symbol.
func (b *book) find(ctx context.Context, symbol string) error {
	for _, set := range b.files {
		if set.Find(symbol) != nil {
			b.use(set)
			return nil
		}
	}
	if b.ask == nil {
		return fmt.Errorf("the files of --protoset don't have %s: they have %s", symbol, some(b.inFiles()))
	}
	set, err := descriptor.Fetch(ctx, b.ask, nil, symbol)
	switch {
	case err == nil && set.Find(symbol) != nil:
		b.use(set)
		return nil
	case err == nil:
		err = fmt.Errorf("server reflection: the answer doesn't have %s", symbol)
	case isFromServer(err):
		return err
	}
	if names, unlisted := b.ask.Services(ctx); unlisted == nil && len(names) > 0 && !names[symbol] {
		return fmt.Errorf("the server has no %s: it has %s", symbol, some(slices.Sorted(maps.Keys(names))))
	}
	return err
}

// isFromServer reports whether an error isn't about what was asked for.
func isFromServer(err error) bool {
	_, isStatus := errors.AsType[*reflectionError](err)
	_, isForeign := errors.AsType[*foreignAnswer](err)
	return errors.Is(err, errNoReflection) || isStatus || isForeign || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (b *book) use(set *descriptor.Set) {
	b.set = set
	set.With(&b.named)
}

func (b *book) inFiles() []string {
	var names []string
	for _, set := range b.files {
		names = append(names, set.Services()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// services returns the names of all services.
func (b *book) services(ctx context.Context) ([]string, error) {
	if b.ask == nil {
		return b.inFiles(), nil
	}
	names, err := b.ask.Services(ctx)
	return slices.Sorted(maps.Keys(names)), err
}

// some names the first of many.
func some(names []string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return "no services"
	case len(names) > most:
		return fmt.Sprintf("%s and %d others", terminal.Text(strings.Join(names[:most], ", ")), len(names)-most)
	}
	return terminal.Text(strings.Join(names, ", "))
}

// read returns the message of a JSON text in the wire form.
func (b *book) read(ctx context.Context, of descriptor.Message, text []byte) (wire []byte, err error) {
	err = b.knowing(ctx, func(unknown *descriptor.Unknowns) (err error) {
		wire, err = descriptor.JSON{RejectUnknown: true}.Read(of.Now(), text, unknown)
		return err
	})
	return wire, err
}

// write returns the JSON text of a message in the wire form.
func (b *book) write(ctx context.Context, of descriptor.Message, wire []byte) (text []byte, err error) {
	err = b.knowing(ctx, func(unknown *descriptor.Unknowns) (err error) {
		cost, err := descriptor.JSON{}.WriteCost(of.Now(), wire)
		if err == nil && cost > maxJSONCost {
			err = fmt.Errorf("it would take more than %d MiB of memory", maxJSONCost>>20)
		}
		if err != nil {
			return err
		}
		text, err = descriptor.JSON{}.Write(nil, of.Now(), wire, unknown)
		return err
	})
	return text, err
}

// maxLessons bounds the types that one message asks for.
const maxLessons = 8

// knowing converts a message, again if it names types that server reflection knows.
func (b *book) knowing(ctx context.Context, convert func(*descriptor.Unknowns) error) error {
	for range maxLessons {
		var unknown descriptor.Unknowns
		err := convert(&unknown)
		if len(unknown.Found) == 0 || !b.learn(ctx, unknown.Found) {
			return err
		}
	}
	return convert(new(descriptor.Unknowns))
}

// learn asks for types, and reports whether it has got one.
func (b *book) learn(ctx context.Context, unknown []descriptor.Unknown) (any bool) {
	if b.ask == nil || len(b.also) >= 10*maxLessons {
		return false
	}
	for _, u := range unknown {
		if set, err := descriptor.FetchUnknown(ctx, b.ask, nil, u); err == nil {
			b.also, any = append(b.also, set), true
		}
	}
	b.named.Put(b.also, time.Time{})
	return any
}

// describe fills in the method, if its descriptors are known or must be.
func (x *exchange) describe(ctx context.Context, w way, path string) error {
	c := x.c
	if bare(c.via) && (len(c.cfg.ProtoSets) == 0 || path == "") {
		return nil
	}
	if c.via == viaConnectJSON {
		w = &connect{web: w.(*connect).web} // reflection needs no JSON
	}
	b, err := c.newBook(w)
	if err != nil {
		return err
	}
	x.book = b
	x.method, err = b.method(ctx, path)
	if err != nil && x.json && len(c.cfg.ProtoSets) == 0 && ctx.Err() == nil {
		c.trace.say(note, "no descriptors (%v): the call is sent as a unary one", err)
		return nil
	}
	return err
}
