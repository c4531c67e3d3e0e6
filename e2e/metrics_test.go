package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A prometheus is Debian's, running.
type prometheus struct {
	*process
	address string
}

// startPrometheus has it scrape culvert, and load culvert's alerts.
func startPrometheus(t *testing.T, c *culvert) *prometheus {
	t.Helper()
	rules, err := filepath.Abs("../deploy/grafana/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs: [{job_name: culvert, static_configs: [{targets: [%q]}]}]\n", rules, c.health)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{address: freeAddress(t)}
	p.process = startProcess(t, "prometheus", "", "prometheus", "--config.file="+file, "--storage.tsdb.path="+dir, "--web.listen-address="+p.address, "--log.level=warn")
	if err := eventually(patience, func() error { return p.get(t, "/-/ready", nil) }); err != nil {
		t.Fatal(err)
	}
	return p
}

// get asks Prometheus. If data isn't nil, the answer is that of its API.
func (p *prometheus) get(t *testing.T, path string, data any) error {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP status %d: %s, %w", path, answer.StatusCode, body, err)
	}
	if data == nil {
		return nil
	}
	api := struct {
		Warnings []string `json:"warnings"`
		Data     any      `json:"data"`
	}{Data: data}
	if err := json.Unmarshal(body, &api); err != nil {
		return err
	}
	if len(api.Warnings) > 0 {
		return fmt.Errorf("%s: warnings %q", path, api.Warnings)
	}
	return nil
}

var errNoData = errors.New("no data")

// query returns errNoData if the answer has no number.
func (p *prometheus) query(t *testing.T, expr string) error {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &data); err != nil {
		return err
	}
	for _, series := range data.Result {
		if series.Value[1] != "NaN" {
			return nil
		}
	}
	return errNoData
}

// dashboardQueries are those of the dashboard, with values for its variables.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana/culvert.json")
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	values := regexp.MustCompile(`^label_values\((.*), \w+\)$`) // of a variable
	var all []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				query, _ := inner.(string)
				if key == "expr" {
					all = append(all, query)
				} else if m := values.FindStringSubmatch(query); m != nil && key == "query" {
					all = append(all, m[1])
				}
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(tree)
	known := strings.NewReplacer("$job", "culvert", "$instance", ".*", "$__rate_interval", "5s")
	for i := range all {
		all[i] = known.Replace(all[i])
	}
	return all
}

// quietQueries have no data while nothing drains and nothing is reloaded.
var quietQueries = []string{"culvert_draining", "changes("}

// makeTraffic makes a call over each transport, one that culvert refuses by a rule, one by
// a limit, and one that the backend fails. It also asks for a page that the web server
// fails.
func makeTraffic(t *testing.T, c *culvert) {
	t.Helper()
	for _, transport := range wire.All {
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
	}
	conn := dial(t, wire.GRPC, c.address)
	defer conn.Close()
	for method, bytes := range map[string]int{"/a.B/Denied": 0, wire.Unary: 8 * kib} {
		call, err := conn.Post(t.Context(), method, wire.Metadata(newID(t), probe.Script{}), wire.Request(0, bytes))
		if err != nil {
			t.Fatal(err)
		}
		if e := finish(call, 0); e.status == nil || e.status.Reason() == "" {
			t.Fatalf("%s: %v, want a refusal", method, e)
		}
		call.Close()
	}
	_ = finish(post(t, conn, wire.Unary, probe.Script{Code: 5}), 0)
	answer, err := http.Get("http://" + c.address + "/page")
	if err != nil {
		t.Fatal(err)
	}
	if _ = answer.Body.Close(); answer.StatusCode != http.StatusBadGateway {
		t.Fatalf("without a web server: HTTP status %d, want %d", answer.StatusCode, http.StatusBadGateway)
	}
}

// TestDashboardAndAlerts: every query of the dashboard has data in a real Prometheus after calls
// over all transports, every alert can be evaluated, and the one about the backend begins
// when the backend is gone.
func TestDashboardAndAlerts(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	certFile, keyFile := writePair(t, t.TempDir(), "tls", newIssuer(t, "CA").issue("localhost", "localhost"))
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })) // an exporter that breaks off has said so
	t.Cleanup(receiver.Close)
	c := startCulvert(t, b.address, culvertOptions{listen: listenByConfig, config: fmt.Sprintf(`
listen:
  - {name: plain, address: "127.0.0.1:0"}
  - {name: secure, address: "127.0.0.1:0", tls: {enabled: true, cert: %q, key: %q}}
methods: {deny: ["a.B/Denied"]}
limits: {message_bytes: 4KiB, memory: 1GiB}
fallback: http://127.0.0.35:1 # nobody listens there
otlp: {endpoint: %q}
`, certFile, keyFile, receiver.URL)})
	p := startPrometheus(t, c)
	mute := dial(t, wire.GRPC, c.address)
	defer mute.Reset()
	post(t, mute, wire.ServerStream, probe.Script{Replies: 1 << 20, ReplyBytes: 2 * kib}) // nobody reads them

	missing := dashboardQueries(t)
	if len(missing) < 30 {
		t.Fatalf("the dashboard has %d queries", len(missing))
	}
	err := eventually(patience, func() error {
		makeTraffic(t, c)
		missing = slices.DeleteFunc(missing, func(expr string) bool {
			err := p.query(t, expr)
			if err != nil && !errors.Is(err, errNoData) {
				t.Fatal(err)
			}
			quiet := slices.ContainsFunc(quietQueries, func(part string) bool { return strings.Contains(expr, part) })
			return err == nil || quiet
		})
		if len(missing) > 0 {
			return fmt.Errorf("%w for %q", errNoData, missing)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	type rule struct{ Name, State, Health, LastError string }
	alerts := func() map[string]rule {
		var data struct{ Groups []struct{ Rules []rule } }
		if err := p.get(t, "/api/v1/rules", &data); err != nil {
			t.Fatal(err)
		}
		all := map[string]rule{}
		for _, g := range data.Groups {
			for _, r := range g.Rules {
				all[r.Name] = r
			}
		}
		return all
	}
	for name, r := range alerts() {
		if r.Health != "ok" || r.LastError != "" {
			t.Errorf("%s can't be evaluated: %+v", name, r)
		}
	}
	if state := alerts()["CulvertBackendDown"].State; state != "inactive" {
		t.Errorf("with a backend CulvertBackendDown is %q", state)
	}
	b.kill(t)
	if err := eventually(patience, func() error {
		if state := alerts()["CulvertBackendDown"].State; state != "pending" && state != "firing" {
			return fmt.Errorf("CulvertBackendDown is %q", state)
		}
		return nil
	}); err != nil {
		t.Errorf("the backend is gone: %v", err)
	}
}

// TestMetricsOff: the answer names the key.
func TestMetricsOff(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "health: {metrics: false}\n"})
	answer, err := http.Get("http://" + c.health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusNotFound || !strings.Contains(string(body), "health.metrics") {
		t.Errorf("HTTP status %d: %s, %v; want %d and the key", answer.StatusCode, body, err, http.StatusNotFound)
	}
}
