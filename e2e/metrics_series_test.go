package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestClientsAddNoSeries: whatever a client chooses (methods, hosts, paths, types, names of
// headers, origins), the time series stay those of its first requests.
func TestClientsAddNoSeries(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200 + len(r.URL.Path)%300)
	}))
	defer web.Close()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "listen: [{name: main, address: \"127.0.0.1:0\"}]\nfallback: " + web.URL + "\nlimits: {message_bytes: 1KiB}\n", listen: listenByConfig})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	if open := `culvert_open_connections{listener="main",transport=""`; !series(t, c)[open] {
		t.Errorf("before the first connection there is no %s}", open)
	}
	next := 0
	flood := func(times int) {
		for range times {
			next++
			mark := fmt.Sprintf("chosen%d", next)
			for _, choose := range []func(r *http.Request){
				func(r *http.Request) { r.URL.Path = "/" + strings.Repeat(mark, next%50) },
				func(r *http.Request) { r.Host = mark + ".example" },
				func(r *http.Request) { r.Method = strings.ToUpper(mark) },
				func(r *http.Request) { r.Header.Set("Content-Type", "application/grpc-web+"+mark) },
				func(r *http.Request) { r.Header.Set("Content-Type", "application/"+mark) },
				func(r *http.Request) { r.Header.Set(mark, mark) },
				func(r *http.Request) { r.Header.Set("X-"+mark, strings.Repeat(mark, 10<<10)) },
				func(r *http.Request) { r.Header.Set("Origin", "https://"+mark+".example") },
				func(r *http.Request) { r.Header.Set("X-Request-Id", mark) },
				func(r *http.Request) { r.Header.Set("X-Forwarded-For", mark) },
				func(r *http.Request) {
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Upgrade", mark)
				},
			} {
				for _, path := range []string{"/page", wire.Unary, "/" + mark + ".S/M"} {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.address+path, http.NoBody)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("Content-Type", map[bool]string{true: "text/plain", false: "application/grpc-web+proto"}[path == "/page"])
					choose(r)
					answer, err := client.Do(r)
					if err != nil {
						continue // culvert closes the connection behind some refusals
					}
					_, _ = io.Copy(io.Discard, answer.Body) // whatever it is
					_ = answer.Body.Close()                 // it has been read
				}
			}
		}
		for _, transport := range wire.All {
			for i := range times {
				conn := dial(t, transport, c.address) // HTTP/1.1 closes behind an early answer
				md := wire.Metadata(newID(t), probe.Script{})
				md.Set(fmt.Sprintf("chosen-%d", next+i), "x")
				call, err := conn.Open(t.Context(), fmt.Sprintf("/chosen%d.S/M%d", next, i), md)
				if err != nil {
					t.Fatalf("%s: %v", transport, err)
				}
				_ = finish(call, 0) // no such method
				call.Close()
				conn.Close()
			}
		}
	}
	flood(3)
	first := series(t, c)
	flood(50)
	wantSeries(t, c, first, 150) // 201 when this was written: every transport has had calls and connections
}

// wantSeries wants the time series of the first requests after more of them. With fewer
// than least of them the first requests didn't use what the later ones use.
func wantSeries(t *testing.T, c *culvert, first map[string]bool, least int) {
	t.Helper()
	var fresh []string
	for s := range series(t, c) {
		if strings.Contains(strings.ToLower(s), "chosen") {
			t.Errorf("a client has chosen a label of %s}", s)
		}
		if !first[s] {
			fresh = append(fresh, s)
		}
	}
	// The connections of a transport may end in another way than the first ones.
	if len(first) < least || len(fresh) > 10 {
		t.Errorf("%d time series, want at least %d, and after more requests %d others: %q", len(first), least, len(fresh), fresh)
	}
}

// TestServerNamesAddNoSeries: whatever a client sends by SNI or ALPN, the time series stay
// those of its first connections, also if culvert gets a certificate for each name.
func TestServerNamesAddNoSeries(t *testing.T) {
	t.Parallel()
	w := newACMEWorld(t)
	w.yaml = "    on_demand: [\"*.chosen.culvert.test\"]\n"
	c, plain := w.serve(t, "", "")
	w.start(t, c, plain, time.Hour)
	awaitCertificate(t, c.address, nil)
	next := 0
	connect := func(onDemand, refused int) {
		t.Helper()
		for range onDemand {
			if err := eventually(acmePatience, func() error {
				next++ // culvert doesn't try a name again for ten minutes if its order has failed, as on a busy machine
				config := named(acmeTLS("h2"), fmt.Sprintf("n%d.chosen.culvert.test", next))
				config.VerifyConnection = func(s tls.ConnectionState) error { return s.PeerCertificates[0].VerifyHostname(s.ServerName) }
				return eventually(acmePatience/10, func() error { return worksTLS(t, wire.GRPC, c.address, config) })
			}); err != nil {
				t.Fatalf("n%d.chosen.culvert.test: %v", next, err)
			}
		}
		for range refused {
			next++
			for _, config := range []*tls.Config{
				named(acmeTLS("h2"), fmt.Sprintf("n%d.chosen.example", next)),
				acmeTLS(fmt.Sprintf("chosen%d", next)),
			} {
				if shown, err := shownTo(c.address, config); err == nil {
					t.Errorf("%s by %s is shown a certificate of %s", config.ServerName, config.NextProtos, shown)
				}
			}
		}
	}
	connect(1, 5)
	first := series(t, c)
	if own := `culvert_certificate_not_after_timestamp_seconds{certificate="` + acmeName + `"`; !first[own] {
		t.Errorf("there is no %s}", own)
	}
	connect(4, 100)
	wantSeries(t, c, first, 50)
}

// TestRemovedRoutesHaveNoSeries: a route has time series from its first call until a reload
// removes it, also if a call of it goes on.
func TestRemovedRoutesHaveNoSeries(t *testing.T) {
	b := startBackend(t, backendOptions{})
	const stays, goes = "routes:\n- {name: stays, backend: default}\n", "- {name: goes, match: {methods: [culvert.e2e.v1.Probe/Bidi]}, backend: default}\n"
	c := startReloads(t, b, t.TempDir(), stays+goes)
	conn := dial(t, wire.GRPC, c.address)
	defer conn.Close()
	finish(post(t, conn, wire.Unary, probe.Script{}), 0)
	finish(post(t, conn, wire.Bidi, probe.Script{}), 0)
	runs := open(t, conn, wire.Bidi, probe.Script{Replies: 1, RepliesFirst: true})
	if _, err := runs.Recv(); err != nil {
		t.Fatal(err)
	}
	routes := func() string {
		t.Helper()
		found := map[string]bool{}
		for s := range series(t, c.culvert) {
			if _, labels, of := strings.Cut(s, `route="`); of {
				route, _, _ := strings.Cut(labels, `"`)
				found[route] = true
			}
		}
		return strings.Join(slices.Sorted(maps.Keys(found)), " ")
	}
	if got := routes(); got != "goes stays" {
		t.Errorf("%q have time series, want both routes", got)
	}
	replaceFile(t, c.file, []byte(stays))
	c.becomes(t, "routes")
	if got := routes(); got != "stays" {
		t.Errorf("after the reload %q have time series, want stays", got)
	}
	if err := runs.CloseSend(); err != nil {
		t.Fatal(err)
	}
	finish(runs, 1)
	if got := routes(); got != "_OTHER stays" {
		t.Errorf("after the last call of the removed route %q have time series, want stays and _OTHER", got)
	}
}

// series returns the time series of culvert's own metrics.
func series(t *testing.T, c *culvert) map[string]bool {
	t.Helper()
	answer, err := http.Get("http://" + c.health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	all := make(map[string]bool)
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if name, _, ok := strings.Cut(lines.Text(), "} "); ok && !strings.HasPrefix(name, "#") {
			all[name] = true
		}
	}
	return all
}
