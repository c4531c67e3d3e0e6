package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/config"
)

// A source is what the command line names: a file, and flags by their keys.
type source struct {
	file        string
	flags       map[string]any
	skipUnknown bool // keys
}

func (s source) load() (*config.Loaded, error) {
	return config.Load(config.Options{SkipUnknownKeys: s.skipUnknown}, s.file, s.flags)
}

func (s source) loadAgain() (*config.Loaded, error) {
	return config.Load(config.Options{SkipUnknownKeys: s.skipUnknown, RegularFiles: true}, s.file, s.flags)
}

// A reloadTest is a reloader with a file, whose parts write down what they do.
type reloadTest struct {
	*reloader
	t    *testing.T
	file string
	log  bytes.Buffer
	did  []string
	fail map[string]error // by the name of a part
}

func newReloadTest(t *testing.T, content string, parts ...string) *reloadTest {
	t.Helper()
	cmdtest.ClearEnvironment(t)
	r := &reloadTest{t: t, file: filepath.Join(t.TempDir(), "proxy.yaml"), fail: map[string]error{}}
	r.write(content)
	s := source{file: r.file}
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	r.reloader = newReloader(c, s.loadAgain, slog.New(slog.NewTextHandler(&r.log, nil)))
	r.reloaded = func(_, now *configState) {
		r.did = append(r.did, fmt.Sprintf("told:%s:%v", now.Errors, now.rejected != nil))
	}
	for _, name := range parts {
		r.parts = append(r.parts, func(running, next *config.Loaded) (commit, undo func(), err error) {
			r.did = append(r.did, fmt.Sprintf("%s:%s>%s", name, running.Errors, next.Errors))
			return func() { r.did = append(r.did, name+":commit") }, func() { r.did = append(r.did, name+":undo") }, r.fail[name]
		})
	}
	return r
}

func (r *reloadTest) write(content string) {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// want checks what the parts did and the log's messages since the last want.
func (r *reloadTest) want(step, did string, messages ...string) {
	r.t.Helper()
	if got := strings.Join(r.did, " "); got != did {
		r.t.Errorf("%s: did %q, want %q", step, got, did)
	}
	lines := slices.Collect(strings.Lines(r.log.String()))
	if len(lines) != len(messages) {
		r.t.Fatalf("%s: %d lines, want %d: %q", step, len(lines), len(messages), lines)
	}
	for i, words := range messages {
		for word := range strings.SplitSeq(words, " … ") {
			if !strings.Contains(lines[i], word) {
				r.t.Errorf("%s: line %q, want %q", step, lines[i], word)
			}
		}
	}
	r.did = nil
	r.log.Reset()
}

// manyMistakes returns keys that nobody knows.
func manyMistakes(n int) string {
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("k%d: 1", i))
	}
	return strings.Join(keys, ", ")
}

const (
	reloadBase    = "backend: {address: \"localhost:1\"}\n"
	reloadChanged = reloadBase + "errors: detailed\n"
)

func TestReloadChangesAllOrNothing(t *testing.T) {
	r := newReloadTest(t, reloadBase, "a", "b")
	first := r.current().version

	r.reload(false)
	r.want("an unchanged file", "")
	r.reload(true)
	r.want("an unchanged file, asked", "", "unchanged … version="+first)

	r.write(reloadChanged)
	r.fail["b"] = errors.New("b can't")
	r.reload(false)
	r.want("a part that can't", "a:concise>detailed b:concise>detailed a:undo told:concise:true", "level=WARN … continues with the old one … version="+first+" … cause=\"b can't\"")
	if s := r.current(); s.version != first || s.Errors != "concise" || s.rejected == nil || len(r.problems()) != 1 {
		t.Errorf("after a rejection: %+v, %q", s, r.problems())
	}
	r.reload(false)
	r.want("the same again", "a:concise>detailed b:concise>detailed a:undo")
	r.reload(true)
	r.want("the same again, asked", "a:concise>detailed b:concise>detailed a:undo told:concise:true", "b can't")

	delete(r.fail, "b")
	r.reload(false)
	r.want("parts that can", "a:concise>detailed b:concise>detailed a:commit b:commit told:detailed:false",
		"level=WARN … errors", "level=INFO … configuration reloaded … before="+first+" … changed=errors")
	if s := r.current(); s.version == first || s.Errors != "detailed" || s.rejected != nil || r.problems() != nil {
		t.Errorf("after a reload: %+v", s)
	}

	r.write("errors: none\n")
	r.reload(false)
	r.want("a wrong file", "told:detailed:true", "cause … proxy.yaml:1: errors")
	r.write(reloadChanged + "# a comment\n")
	r.reload(false)
	r.want("a file with the old effect", "told:detailed:false", "unchanged")
	if r.problems() != nil {
		t.Errorf("a rejection remains: %q", r.problems())
	}
}

func TestReloadRefusesFiles(t *testing.T) {
	r := newReloadTest(t, reloadChanged, "a")
	for _, c := range []struct{ name, content, cause string }{
		{"truncated to nothing", "", "sets no key any more"},
		{"without a backend", "errors: detailed\n", "backend.address is missing"},
		{"with many mistakes", reloadBase + "limits: {" + manyMistakes(25) + "}\n", "and 15 more"},
		{"cut in a word", reloadChanged[:len(reloadChanged)-4], "proxy.yaml:2: errors"},
		{"cut in a bracket", reloadBase[:20], "not YAML"},
		{"another value of a key that needs a restart", reloadChanged + "listen: \":1\"\nlog: {format: json}\nhealth: {listen: \":2\"}\ntls: {http_listen: \":3\"}\n", "tls.http_listen"},
	} {
		r.write(c.content)
		r.reload(false)
		r.want(c.name, "told:detailed:true", "continues with the old one … "+c.cause)
	}
	r.write(reloadChanged + "listen: \":4\"\nlog: {format: json}\nhealth: {listen: \":5\"}\n")
	r.reload(false)
	r.want("a restart", "told:detailed:true", r.file+":3: listen: a change needs a restart … "+r.file+":5: health.listen: … "+r.file+":4: log.format: ")
	if got, want := r.current().rejected.keys, []string{"listen[0].address", "health.listen", "log.format"}; !reflect.DeepEqual(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.reload(false)
	r.want("no file", "told:detailed:true", "no such file")
	r.write(reloadBase)
	r.reload(false)
	r.want("it is back", "a:detailed>concise a:commit told:concise:false", "configuration reloaded")
}

// TestReloadWarnsOfUnknownKeys: culvert ignores them, so that the version stays the same.
func TestReloadWarnsOfUnknownKeys(t *testing.T) {
	r := newReloadTest(t, reloadBase, "a")
	r.load = source{file: r.file, skipUnknown: true}.loadAgain
	r.write(reloadBase + "zone: b\n")
	r.reload(false)
	r.want("an unknown key", "", "level=WARN … proxy.yaml:2: … unknown key … zone")
	r.reload(false)
	r.want("the same file", "")
	r.write(reloadChanged + "zone: b\n")
	r.reload(false)
	r.want("another value, and the key in another line", "a:concise>detailed a:commit told:detailed:false", "proxy.yaml:3: … unknown key … zone", "errors", "configuration reloaded")
}

// TestReloadKeepsWhatAnEmptyFileWouldDrop: flags set the backend, so that an
// empty file is a valid one.
func TestReloadKeepsWhatAnEmptyFileWouldDrop(t *testing.T) {
	r := newReloadTest(t, reloadBase+"methods: {deny: [\"admin.v1.*/*\"]}\n", "a")
	s := source{file: r.file, flags: map[string]any{"backend.address": "localhost:1"}}
	r.load = s.loadAgain
	for _, content := range []string{"", "# nothing\n", "backend:\n"} {
		r.write(content)
		r.current().rejected = nil
		r.reload(false)
		r.want(content, "told:concise:true", "sets no key")
	}
	r.write("methods: {deny: []}\n")
	r.reload(false)
	r.want("a key without entries", "a:concise>concise a:commit told:concise:false", "configuration reloaded … changed=methods.deny")
}

// TestReloadWarnsOnceOfRoutes: a reload that changes something else doesn't repeat the
// warning of the start.
func TestReloadWarnsOnceOfRoutes(t *testing.T) {
	const file = "listen: 127.0.0.1:0\nhealth: {listen: \"off\"}\nadmin: {listen: \"off\"}\nbackend: {address: \"localhost:1\"}\nmethods: {deny: [a.B/*]}\nroutes:\n- {name: a, match: {methods: [a.B/C]}, backend: default}\n"
	const other = "- {name: b, match: {methods: [a.B/D]}, backend: default}\n"
	loaded := cmdtest.Load(t, file)
	warned := 0
	log := slog.New(watchedLog{slog.DiscardHandler, func(message string) {
		if message == "configuration" {
			warned++
		}
	}})
	p := newTestProgram(t, loaded)
	p.log.Logger = log
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, step := range []struct {
		file string
		want int
	}{{file + "drain_timeout: 7s\n", 1}, {file + other, 2}, {file + other + "drain_timeout: 8s\n", 2}} {
		if err := os.WriteFile(loaded.File, []byte(step.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if p.reloads.reload(true); warned != step.want || p.reloads.current().rejected != nil {
			t.Errorf("behind\n%s\nthe log warns %d times, want %d; rejected: %v", step.file, warned, step.want, p.reloads.current().rejected)
		}
	}
}

// TestTheEndWaitsForAReload: what a reload opens while culvert ends is closed, too.
func TestTheEndWaitsForAReload(t *testing.T) {
	for name, refused := range map[string]error{"applied": nil, "refused": errors.New("the bridge has ended")} {
		synctest.Test(t, func(t *testing.T) { // fails if a watch of files is left
			dir := t.TempDir()
			load := func(pair string) *config.Loaded {
				cmdtest.WritePair(t, dir, pair)
				return cmdtest.Load(t, strings.ReplaceAll(reloadBase+"tls: {cert: DIR.pem, key: DIR.key}\n", "DIR", filepath.Join(dir, pair)))
			}
			running, next := load("a"), load("b")
			ring, err := keys.Open(running, slog.New(slog.DiscardHandler), nil, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ring.Listeners(running); err != nil {
				t.Fatal(err)
			}
			r := newReloader(running, func() (*config.Loaded, error) { return next, nil }, slog.New(slog.DiscardHandler))
			ends := make(chan struct{})
			r.parts = []part{
				func(_, _ *config.Loaded) (commit, undo func(), err error) { <-ends; return nil, nil, nil },
				ring.ChangeListeners,
				func(_, _ *config.Loaded) (commit, undo func(), err error) { return nil, nil, refused },
			}
			r.running.Go(func() { r.reload(false) })
			ring.Close(keys.Patience, func() { close(ends); r.wait() })
			if changed := r.current().version == next.Version(); changed != (refused == nil) {
				t.Errorf("%s: the configuration changed: %v", name, changed)
			}
		})
	}
}
