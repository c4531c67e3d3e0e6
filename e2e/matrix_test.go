package e2e

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// TestPublishedClients runs every scenario with every client that people use,
// through culvert, prints what came of it, and holds the pages on compatibility to it.
//
// A client that can't do a scenario has to fail in it, for the reason that
// limitations gives.
func TestPublishedClients(t *testing.T) {
	m := startMatrix(t)
	runners := m.startRunners(t)
	var gone time.Time
	for _, phase := range phases {
		switch phase {
		case doomed:
			m.awaitReplies(t, phase)
			m.dying.kill(t)
		case drained:
			m.awaitReplies(t, phase)
			m.draining.signal(t, syscall.SIGTERM)
		case left:
			m.awaitReplies(t, phase)
			gone = time.Now()
		}
		if phase != left { // who has left says no more
			m.collect(t, runners, phase)
		}
		for _, r := range runners {
			r.next()
		}
	}

	m.far.wantUsed(t)
	results := m.judge(t, gone)
	t.Log("\n" + results.text())
	comparePage(t, results)
}

// A matrix is all calls of all clients, and what they go to.
type matrix struct {
	backend, dying *backend
	draining       *culvert
	address        map[place]string // of culvert, host:port
	allowed        string           // the page's origin
	foreign        string           // the other's
	far            farPath
	jobs           []job
	seen           map[string]observation // by the call's id
}

func startMatrix(t *testing.T) *matrix {
	t.Helper()
	m := &matrix{backend: startBackend(t, backendOptions{}), dying: startBackend(t, backendOptions{}), seen: map[string]observation{}}
	script := bundlePage(t)
	m.allowed, m.foreign = servePage(t, script), servePage(t, script)
	args := []string{"--allow-origin", m.allowed}
	whole := startCulvert(t, m.backend.address, culvertOptions{args: args})
	low := startCulvert(t, m.backend.address, culvertOptions{args: args, config: "limits: {message_bytes: 1MiB}\n"})
	dying := startCulvert(t, m.dying.address, culvertOptions{args: args})
	m.draining = startCulvert(t, m.backend.address, culvertOptions{args: args, config: "drain_timeout: 3s\n"})
	m.address = map[place]string{
		ordinary: whole.address, calm: whole.address, slow: whole.address, foreign: whole.address, left: whole.address,
		small: low.address, doomed: dying.address, drained: m.draining.address,
	}
	m.far = startFarPath(t, whole.address, low.address, dying.address, m.draining.address)
	for _, c := range clients {
		for _, s := range scenarios {
			m.jobs = append(m.jobs, m.job(t, c, s))
		}
	}
	return m
}

func (m *matrix) job(t *testing.T, c publishedClient, s scenario) job {
	j := s.job(t, c.name)
	j.Address = "http://" + m.address[s.place]
	switch c.way() {
	case "tls":
		j.Address = "https://" + m.far.front[m.address[s.place]]
	case "caddy":
		j.Address = "https://" + m.far.caddy[m.address[s.place]]
	case "far":
		j.Address, j.Proxy = "https://"+m.far.front[m.address[s.place]], "http://"+m.far.proxy
	case "squid":
		// Squid compares a certificate with names alone.
		j.Address, j.Proxy = "https://localhost:"+port(m.far.front[m.address[s.place]]), "http://"+m.far.squid
	}
	j.Page = m.allowed
	if s.place == foreign {
		// A browser's origin is its page's. Other clients have none, but can say one.
		j.Page = m.foreign
		if c.platform() != "chromium" {
			j.Metadata = append(j.Metadata, jobField{Name: "origin", Value: m.foreign})
		}
	}
	return j
}

func (m *matrix) startRunners(t *testing.T) []*runner {
	t.Helper()
	of := map[string][]job{}
	for _, j := range m.jobs {
		platform, _, _ := strings.Cut(j.Client, " ")
		of[platform] = append(of[platform], j)
	}
	return []*runner{
		startGo(t, m.far, of["go"]),
		startNode(t, "node", "node.js", of["node"]),
		startNode(t, "chromium", "chromium.js", of["chromium"]),
	}
}

// collect waits for what the clients saw of the calls of a phase.
func (m *matrix) collect(t *testing.T, runners []*runner, phase place) {
	t.Helper()
	patience := time.After(5 * time.Minute)
	for _, r := range runners {
		for missing := m.missing(r, phase); missing > 0; missing-- {
			select {
			case o, ok := <-r.seen:
				if !ok {
					t.Fatalf("%s ended with %d calls missing: %v", r.platform, missing, r.err)
				}
				m.seen[o.ID] = o
			case <-patience:
				t.Fatalf("%s has not ended %d calls", r.platform, missing)
			}
		}
	}
}

func (m *matrix) missing(r *runner, phase place) int {
	n := 0
	for _, j := range m.jobs {
		if _, ok := m.seen[j.ID]; !ok && j.Phase == phase && r.runs(j) {
			n++
		}
	}
	return n
}

// awaitReplies waits until each call of a phase runs and has been answered.
func (m *matrix) awaitReplies(t *testing.T, phase place) {
	t.Helper()
	b := m.backend
	if phase == doomed {
		b = m.dying
	}
	for _, j := range m.jobs {
		if j.Phase != phase {
			continue
		}
		if err := eventually(patience, func() error {
			if r, _ := b.saw(t, j.ID); r.Sent == 0 {
				return errors.New("no reply was sent")
			}
			return nil
		}); err != nil {
			t.Fatalf("%s, %s: %v", j.Client, j.Scenario, err)
		}
	}
}

// judge judges every call, each in a test of its own.
func (m *matrix) judge(t *testing.T, gone time.Time) results {
	byName := map[string]scenario{}
	for _, s := range scenarios {
		byName[s.name] = s
	}
	out := results{}
	for _, j := range m.jobs {
		t.Run(strings.ReplaceAll(j.Client+"/"+j.Scenario, " ", "_"), func(t *testing.T) {
			s := byName[j.Scenario]
			var v verdict
			if s.place == left {
				v = judgeLeft(t, m.backend, j, gone)
			} else {
				v = s.judge(t, m.seen[j.ID], m.backend)
			}
			limit := limited(j.Client, s)
			switch {
			case limit == nil && len(v.problems) > 0:
				t.Errorf("%s\nseen by the client: %+v", strings.Join(v.problems, "\n"), m.seen[j.ID])
			case limit != nil && len(v.problems) == 0 && !limit.maybe:
				t.Errorf("it works, though it is said that %s", limit.reason)
			}
			out.add(j.Client, s, limit, t.Failed())
		})
	}
	return out
}

// judgeLeft says what is wrong with a call whose client has gone.
func judgeLeft(t *testing.T, b *backend, j job, gone time.Time) verdict {
	var v verdict
	r := b.record(t, j.ID, probe.Ended, patience)
	// A browser takes its time to close all its pages.
	if after := r.Cancelled.Sub(gone); r.Cancelled.IsZero() || after > 5*time.Second+soon(j.Client) {
		v.errorf("the backend's call was cancelled %v after its client had gone (%s)", after, r.Cause)
	}
	return v
}

// servePage serves the page of the browser's clients from an origin of its own,
// which it returns.
func servePage(t *testing.T, script []byte) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><meta charset=utf-8><title>probe</title><script src=page.js></script>")) // to a browser that may be gone
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(script) // to a browser that may be gone
	})
	mux.HandleFunc("GET /wait", func(_ http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.FormValue("ms")) // the page's own
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
		case <-r.Context().Done():
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute} // a browser may connect long before it asks
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is closed
	t.Cleanup(func() {
		_ = server.Close() // the browser is gone
		serving.Wait()
	})
	_, port, _ := net.SplitHostPort(ln.Addr().String()) // it is one
	return "http://localhost:" + port
}
