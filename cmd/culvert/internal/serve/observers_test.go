package serve

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// TestMetricsOfReloads: a file that is put back changes nothing, and certificates that
// aren't in use any more have no series.
func TestMetricsOfReloads(t *testing.T) {
	r := newReloadTest(t, reloadBase)
	s, err := bridge.New(bridge.Config{Backend: bridge.Backend{Target: "localhost:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }() // the test is over
	p := newTestProgram(t, r.current().Loaded)
	p.reloads, p.bridge, p.observers.metrics = r.reloader, s, telemetry.NewMetrics("1")
	if p.keys, err = keys.Open(r.current().Loaded, p.log.Logger, p.observers.metrics, io.Discard); err != nil {
		t.Fatal(err)
	}
	defer p.keys.Close(keys.Patience)
	p.watchReloads()
	values := func() map[string]string {
		w := httptest.NewRecorder()
		p.observers.metrics.Handler(p.log.Logger).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		values := map[string]string{}
		for line := range strings.Lines(w.Body.String()) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			values[name] = value
		}
		return values
	}
	const applied, rejected, newest, since = `culvert_config_reloads_total{result="applied"}`, `culvert_config_reloads_total{result="rejected"}`, "culvert_config_last_reload_successful", "culvert_config_applied_timestamp_seconds"
	first := values()[since]
	for _, step := range []struct{ content, applied, rejected, newest string }{
		{"errors: none\n", "0", "1", "0"},
		{reloadBase, "0", "1", "1"},
		{reloadChanged, "1", "1", "1"},
	} {
		dir := t.TempDir() // a certificate that the reload opens, and that isn't in use then
		cmdtest.WritePair(t, dir, "a")
		if _, err := p.keys.Listeners(cmdtest.Load(t, strings.ReplaceAll("tls: {cert: DIR/a.pem, key: DIR/a.key}\n", "DIR", dir))); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(slices.Collect(maps.Keys(values())), "\n"), dir) {
			t.Errorf("%q: the certificate has no series", step.content)
		}
		r.write(step.content)
		r.reload(false)
		now := values()
		if now[applied] != step.applied || now[rejected] != step.rejected || now[newest] != step.newest {
			t.Errorf("%q: %s applied, %s rejected, the newest is in use: %s; want %+v", step.content, now[applied], now[rejected], now[newest], step)
		}
		if changed := now[since] != first; changed != (step.applied != "0") {
			t.Errorf("%q: the time of the configuration is %s, and was %s", step.content, now[since], first)
		}
		for name := range now {
			if strings.Contains(name, dir) && step.newest == "1" {
				t.Errorf("%q: %s is told of", step.content, name)
			}
		}
	}
}

// TestRejectedCertificatesHaveNoSeries, not even while culvert judges the file, or if the
// file is touched later. The certificates of a configuration that runs have theirs.
func TestRejectedCertificatesHaveNoSeries(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		cmdtest.WritePair(t, dir, name)
	}
	base := strings.ReplaceAll("listen: 127.0.0.1:0\nhealth: {listen: 127.0.0.1:0}\nadmin: {listen: \"off\"}\nbackend: {address: \"localhost:1\"}\ntls: {certificates: [{cert: DIR/a.pem, key: DIR/a.key}MORE]}\n", "DIR", dir)
	with := func(more string) string {
		return strings.Replace(base, "MORE", strings.ReplaceAll(more, "DIR", dir), 1)
	}
	loaded := cmdtest.Load(t, with(""))
	var told []string
	calls := slog.New(watchedLog{slog.DiscardHandler, func(message string) {
		if strings.HasPrefix(message, "certificate ") {
			told = append(told, message)
		}
	}})
	p := newTestProgram(t, loaded)
	p.log.Calls = calls
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	series := func() (files []string) {
		w := httptest.NewRecorder()
		p.observers.metrics.Handler(p.log.Logger).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			if _, file, ok := strings.Cut(line, dir+"/"); ok {
				file, _, _ = strings.Cut(file, `"`)
				files = append(files, file)
			}
		}
		return files
	}
	running := []string{"a.pem"} // have a series
	judging := func(_, _ *config.Loaded) (commit, undo func(), err error) {
		if got := series(); !slices.Equal(got, running) {
			t.Errorf("while culvert judges a file, %q have a series, want %q", got, running)
		}
		return nil, nil, nil
	}
	p.reloads.parts = slices.Insert(p.reloads.parts, len(p.reloads.parts)-1, judging) // the bridge is the last
	const b, c, gone = ", {cert: DIR/b.pem, key: DIR/b.key}", ", {cert: DIR/c.pem, key: DIR/c.key}", ", {cert: DIR/gone.pem, key: DIR/gone.key}"
	for _, step := range []struct {
		file  string
		want  []string // that have a series
		loads int      // certificates of which the log tells
	}{
		{with(b + gone), []string{"a.pem"}, 1},
		{with(b) + "routes: [{name: x, backend: gone}]\n", []string{"a.pem"}, 1},
		{with(b) + "routes: [{name: x, backend: gone}]\n# touched\n", []string{"a.pem"}, 1},
		{with(b + c), []string{"a.pem", "b.pem", "c.pem"}, 3},
		{with(c), []string{"a.pem", "c.pem"}, 3},
	} {
		if err := os.WriteFile(loaded.File, []byte(step.file), 0o600); err != nil {
			t.Fatal(err)
		}
		p.reloads.reload(false)
		if got := series(); !slices.Equal(got, step.want) {
			t.Errorf("behind\n%s\n%q have a series, want %q", step.file, got, step.want)
		}
		if len(told) != step.loads {
			t.Errorf("behind\n%s\nthe log tells of certificates %d times, want %d: %q", step.file, len(told), step.loads, told)
		}
		running = step.want
	}
}

// TestRoutesOfReloads: the admin address counts the routes of the configuration that runs,
// from the start on.
func TestRoutesOfReloads(t *testing.T) {
	const base = "listen: 127.0.0.1:0\nhealth: {listen: \"off\"}\nadmin: {listen: 127.0.0.1:0}\nbackends: [{name: a, address: \"localhost:1\"}]\n"
	const one, two = "{name: one, match: {path_prefix: /one}, backend: a}", "{name: two, match: {path_prefix: /two}, backend: a}"
	loaded := cmdtest.Load(t, base+"routes: ["+one+", "+two+"]\n")
	p := newTestProgram(t, loaded)
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, name := range []string{"one", "two", "three"} {
		p.observers.recent.CallEnded(&report.CallInfo{Route: name, Backend: "a", Begin: time.Now()})
	}
	names := func() (names []string) {
		for _, r := range p.data().Routes().Routes {
			names = append(names, string(r.Route))
		}
		return names
	}
	if got := names(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("at the start: got %q, want one and two", got)
	}
	if err := os.WriteFile(loaded.File, []byte(base+"routes: ["+two+"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.reloads.reload(false)
	if got := names(); !slices.Equal(got, []string{"two"}) {
		t.Errorf("after a reload without one: got %q, want two", got)
	}
}

// TestMetricsThatAreOffObserveNothing: without the key, or without an address to read
// them on, nothing counts.
func TestMetricsThatAreOffObserveNothing(t *testing.T) {
	for name, c := range map[string]struct {
		health config.Health
		on     bool
	}{
		"on":         {config.Health{Listen: ":1", Metrics: true}, true},
		"off":        {config.Health{Listen: ":1"}, false},
		"no address": {config.Health{Metrics: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			log := telemetry.NewLog(nil)
			cfg := bridge.Config{Observer: log}
			o := observers{lines: log}
			certificates := o.openMetrics(&cfg, &config.Loaded{Config: config.Config{Health: c.health}}, "1")
			if on := cfg.Observer != report.Observer(log); on != c.on {
				t.Errorf("something else observes the calls: %v, want %v", on, c.on)
			}
			if _, on := certificates.(certificateObservers); on != c.on || (o.metrics != nil) != c.on {
				t.Errorf("something else observes the certificates: %v, want %v", on, c.on)
			}
		})
	}
}
