package serve

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/config"
)

// A watchTest is a running reloader of a file in a directory of its own.
type watchTest struct {
	*testing.T
	dir    string
	told   chan *configState // of each reload and rejection
	loads  atomic.Int64
	looked chan struct{} // after each load
}

// watchFile starts a reloader of the file, a path in the directory of the test.
func watchFile(t *testing.T, file string, prepare func(w *watchTest)) *watchTest {
	t.Helper()
	cmdtest.ClearEnvironment(t)
	w := &watchTest{T: t, dir: t.TempDir(), told: make(chan *configState, 100), looked: make(chan struct{}, 1000)}
	prepare(w)
	s := source{file: w.at(file), flags: map[string]any{"backend.address": "localhost:1"}}
	c, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	load := func() (*config.Loaded, error) {
		defer func() { w.looked <- struct{}{} }()
		w.loads.Add(1)
		return s.loadAgain()
	}
	r := newReloader(c, load, slog.New(slog.DiscardHandler))
	r.quiet, r.longest = 10*time.Millisecond, 100*time.Millisecond
	r.reloaded = func(_, now *configState) { w.told <- now }
	ctx, cancel := context.WithCancel(t.Context())
	r.start(ctx)
	t.Cleanup(func() { cancel(); r.wait() })
	<-w.looked // it watches
	return w
}

func (w *watchTest) at(name string) string { return filepath.Join(w.dir, name) }

func (w *watchTest) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *watchTest) write(name, origin string) {
	w.Helper()
	w.check(os.WriteFile(w.at(name), []byte("allow_origins: [\"https://"+origin+".example\"]\n"), 0o600))
}

func (w *watchTest) mkdir(name string) { w.Helper(); w.check(os.MkdirAll(w.at(name), 0o700)) }

func (w *watchTest) rename(from, to string) { w.Helper(); w.check(os.Rename(w.at(from), w.at(to))) }

func (w *watchTest) link(target, name string) { w.Helper(); w.check(os.Symlink(target, w.at(name))) }
func (w *watchTest) remove(name string)       { w.Helper(); w.check(os.RemoveAll(w.at(name))) }
func (w *watchTest) relink(target, at string) { w.link(target, at+"_tmp"); w.rename(at+"_tmp", at) }

func (w *watchTest) replace(name, text string) {
	w.write(name+".new", text)
	w.rename(name+".new", name)
}

// runs waits until the configuration with the origin runs.
func (w *watchTest) runs(origin string) {
	w.Helper()
	w.until("runs with "+origin, func(s *configState) bool {
		return s.rejected == nil && strings.Contains(strings.Join(s.AllowOrigins, " "), "//"+origin+".")
	})
}

// rejects waits until a rejection has the words.
func (w *watchTest) rejects(words string) {
	w.Helper()
	w.until("rejects: "+words, func(s *configState) bool {
		return s.rejected != nil && strings.Contains(s.rejected.cause.Error(), words)
	})
}

func (w *watchTest) until(what string, is func(*configState) bool) {
	w.Helper()
	late := time.After(cmdtest.Patience)
	for {
		select {
		case s := <-w.told:
			if is(s) {
				return
			}
		case <-late:
			w.Fatalf("never: culvert %s", what)
		}
	}
}

func TestWatchedFileIsReloaded(t *testing.T) {
	const file = "etc/proxy.yaml"
	plain := func(w *watchTest) { w.mkdir("etc"); w.write(file, "first") }
	volume := func(w *watchTest) { // as the kubelet writes a ConfigMap
		w.mkdir("etc/..1")
		w.write("etc/..1/proxy.yaml", "first")
		w.link("..1", "etc/..data")
		w.link("..data/proxy.yaml", file)
	}
	for name, c := range map[string]struct {
		prepare func(w *watchTest)
		changes func(w *watchTest)
	}{
		"written in place": {plain, func(w *watchTest) {
			w.write(file, "second")
			w.runs("second")
		}},
		"renamed over it": {plain, func(w *watchTest) {
			for _, origin := range []string{"second", "third", "fourth"} {
				w.replace(file, origin)
				w.runs(origin)
			}
		}},
		"by vim, with a backup": {plain, func(w *watchTest) {
			w.rename(file, file+"~")
			w.write(file, "second")
			w.remove(file + "~")
			w.runs("second")
		}},
		"removed and back": {plain, func(w *watchTest) {
			w.remove(file)
			w.rejects("no such file")
			w.write(file, "second")
			w.runs("second")
		}},
		"wrong and mended": {plain, func(w *watchTest) {
			w.check(os.WriteFile(w.at(file), []byte("allow_origins: [\"https://a"), 0o600))
			w.rejects("not YAML")
			w.write(file, "second")
			w.runs("second")
		}},
		"emptied and written": {plain, func(w *watchTest) {
			w.check(os.Truncate(w.at(file), 0))
			w.rejects("sets no key")
			w.write(file, "second")
			w.runs("second")
		}},
		"a directory in its place, and back": {plain, func(w *watchTest) {
			w.remove(file)
			w.mkdir(file)
			w.rejects("not a regular file")
			w.remove(file)
			w.write(file, "second")
			w.runs("second")
		}},
		"its directory replaced": {plain, func(w *watchTest) {
			w.mkdir("new")
			w.write("new/proxy.yaml", "second")
			w.rename("etc", "old")
			w.rename("new", "etc")
			w.runs("second")
			w.write(file, "third")
			w.runs("third")
			w.write("old/proxy.yaml", "fourth")
			w.replace(file, "fifth")
			w.runs("fifth")
		}},
		"its directory removed and back": {plain, func(w *watchTest) {
			w.remove("etc")
			w.rejects("no such file")
			w.mkdir("etc")
			w.write(file, "second")
			w.runs("second")
		}},
		"a volume swapped": {volume, func(w *watchTest) {
			for i, origin := range []string{"second", "third", "fourth"} {
				next := "..2" + origin
				w.mkdir("etc/" + next)
				w.write("etc/"+next+"/proxy.yaml", origin)
				before, err := os.Readlink(w.at("etc/..data"))
				w.check(err)
				w.relink(next, "etc/..data")
				w.remove("etc/" + before)
				w.runs(origin)
				if i == 1 { // and written behind its links
					w.write("etc/"+next+"/proxy.yaml", "inside")
					w.runs("inside")
				}
			}
		}},
		"behind a link": {func(w *watchTest) {
			w.mkdir("etc")
			w.mkdir("srv/1")
			w.write("srv/1/real.yaml", "first")
			w.link("1", "srv/current")
			w.link("../srv/current/real.yaml", file)
		}, func(w *watchTest) {
			w.replace("srv/1/real.yaml", "second")
			w.runs("second")
			w.mkdir("srv/2")
			w.write("srv/2/real.yaml", "third")
			w.relink("2", "srv/current")
			w.runs("third")
			w.write("other.yaml", "fourth")
			w.relink(w.at("other.yaml"), file)
			w.runs("fourth")
			w.write("other.yaml", "fifth")
			w.runs("fifth")
		}},
		"a value in a file of its own": {func(w *watchTest) {
			w.mkdir("etc")
			w.mkdir("secret")
			w.check(os.WriteFile(w.at(file), []byte("allow_origins: [\"file:../secret/origin\"]\n"), 0o600))
			w.check(os.WriteFile(w.at("secret/origin"), []byte("https://first.example"), 0o600))
		}, func(w *watchTest) {
			w.check(os.WriteFile(w.at("secret/origin"), []byte("https://second.example"), 0o600))
			w.runs("second")
			w.check(os.WriteFile(w.at(file), []byte("allow_origins: [\"file:../late/origin\"]\n"), 0o600))
			w.rejects("no such file")
			w.mkdir("late")
			w.check(os.WriteFile(w.at("late/origin"), []byte("https://third.example"), 0o600))
			w.runs("third")
		}},
	} {
		t.Run(name, func(t *testing.T) { c.changes(watchFile(t, file, c.prepare)) })
	}
}

// TestOtherFilesAreNotNoticed: a directory with many changes costs nothing.
func TestOtherFilesAreNotNoticed(t *testing.T) {
	w := watchFile(t, "proxy.yaml", func(w *watchTest) { w.write("proxy.yaml", "first") })
	for range 100 {
		w.replace("other.yaml", "other")
	}
	w.write("proxy.yaml", "second")
	w.runs("second")
	if n := w.loads.Load(); n > 1+1+2 { // at the start, for the change, and what the kernel tells in two
		t.Errorf("the file was read %d times", n)
	}
}

// TestWithoutTheKernelHangupStillReloads: no more watches are to be had.
func TestWithoutTheKernelHangupStillReloads(t *testing.T) {
	r := newReloadTest(t, reloadBase)
	for _, text := range []string{"no space left on device", "too many open files"} {
		err := map[bool]error{true: os.NewSyscallError("inotify_add_watch", syscall.ENOSPC), false: os.NewSyscallError("inotify_init1", syscall.EMFILE)}[text == "no space left on device"]
		r.tellUnwatched(err)
		r.tellUnwatched(err)
		r.want("unwatched", "", "level=WARN … SIGHUP … "+text+" … fs.inotify.")
	}
}
