package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A reloads is a culvert whose file a test changes.
type reloads struct {
	*culvert
	file string
	read int // lines of its log so far
}

func startReloads(t testing.TB, b *backend, folder, content string) *reloads {
	t.Helper()
	r := &reloads{file: filepath.Join(folder, "proxy.yaml")}
	if content != "" {
		replaceFile(t, r.file, []byte(content))
	}
	r.culvert = startCulvert(t, b.address, culvertOptions{args: []string{"--config", r.file}})
	return r
}

// becomes waits for the next reload that changes the configuration.
func (r *reloads) becomes(t testing.TB, changed string) {
	t.Helper()
	r.next(t, "configuration reloaded", "changed", changed)
}

// refuses waits for the next reload that is refused for the cause. The file may be
// read twice, for its change and for a signal.
func (r *reloads) refuses(t testing.TB, cause string) {
	t.Helper()
	r.next(t, "configuration not reloaded", "cause", cause)
}

// next waits for the next line of the log with the message and words in a field.
func (r *reloads) next(t testing.TB, msg, field, words string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, read, err := r.output.find(ctx, r.read, func(text string) bool {
		var line map[string]any
		return json.Unmarshal([]byte(text), &line) == nil && strings.HasPrefix(fmt.Sprint(line["msg"]), msg) && strings.Contains(fmt.Sprint(line[field]), words)
	})
	if err != nil {
		t.Fatalf("culvert's log has no line %q with %q: %v", msg, words, err)
	}
	r.read = read
}

// TestReloadsLeaveRunningStreamsAlone reloads 200 times under 1,000 streams that talk
// over all transports: none loses a message, in either direction.
func TestReloadsLeaveRunningStreamsAlone(t *testing.T) {
	const streams, count, talkers = 1000, 200, 8
	b := startBackend(t, backendOptions{})
	version := func(i int) string {
		return fmt.Sprintf("backend: {queue_timeout: %ds}\nroutes: [{name: r%d, backend: default}]\n", 1+i, i) +
			fmt.Sprintf("proxy_protocol: [10.%d.0.0/16]\n", i) +
			fmt.Sprintf("limits: {header_bytes: %dKiB, buffered_bytes: %dMiB, calls_per_connection: %d, slow_consumer_timeout: %dm, connection_idle_timeout: %dm, ", 64+count-i, 100+i, 100+i, 1+i, 2+i) +
			fmt.Sprintf("calls: %d, message_bytes: %dKiB, address: {calls: %d}, methods: [{pattern: \"culvert.*/*\", calls: %d}]}\n", 5000+i, 100+i, 6000+i, 7000+i) +
			fmt.Sprintf("allow_origins: [\"https://a%d.example\"]\nhosts: [h%d.example]\ntrusted_proxies: [10.%d.0.0/16]\n", i, i, i%200) +
			fmt.Sprintf("methods: {deny: [\"denied%d.*/*\"]}\ndrain_timeout: %ds\nerrors: %s\nmetadata: {vouched: [x-v%d]}\n", i, 1+i%20, []string{"concise", "detailed"}[i%2], i)
	}
	r := startReloads(t, b, t.TempDir(), version(0))

	talks := make([]*call, streams)
	conns := make([]*wire.Conn, streams)
	for i := range streams {
		if transport := wire.All[i%len(wire.All)]; !transport.Multiplexed() || i < 2*len(wire.All) {
			conns[i] = dial(t, transport, r.address)
		} else {
			conns[i] = conns[i%(2*len(wire.All))] // calls_per_connection is 100
		}
	}
	inParallel(16, streams, func(i int) { talks[i] = open(t, conns[i], wire.Bidi, probe.Script{Echo: true}) })
	said := make([]uint64, streams)
	inParallel(16, streams, func(i int) { say(t, talks[i], 0); said[i] = 1 })
	if t.Failed() {
		t.FailNow()
	}

	stop := make(chan struct{})
	var talking sync.WaitGroup
	for n := range talkers {
		talking.Go(func() {
			for at := n; ; at += talkers { // each has streams of its own
				select {
				case <-stop:
					return
				default:
				}
				i := at % streams
				say(t, talks[i], said[i])
				said[i]++
			}
		})
	}
	began := time.Now()
	for i := 1; i <= count; i++ {
		switch i % 20 {
		case 0:
			replaceFile(t, r.file, []byte(version(i)[:len(version(i))/2]+"\n\""))
			r.signal(t, syscall.SIGHUP)
			r.refuses(t, "not YAML")
		case 10:
			replaceFile(t, r.file, []byte(version(i)+"http2_server: standard\n"))
			r.signal(t, syscall.SIGHUP)
			r.refuses(t, "http2_server: a change needs a restart")
		}
		replaceFile(t, r.file, []byte(version(i)))
		r.signal(t, syscall.SIGHUP)
		r.becomes(t, "backend.queue_timeout")
	}
	t.Logf("%d reloads took %v", count, time.Since(began))
	close(stop)
	talking.Wait()

	if err := eventually(20*time.Second, func() error { // the last reload's takes a moment
		if n := b.connections(t); n < 2 {
			return fmt.Errorf("the backend has %d connections, so no reload replaced it", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	total := uint64(0)
	inParallel(16, streams, func(i int) {
		if err := talks[i].CloseSend(); err != nil {
			t.Errorf("%s: half-close: %v", talks[i].conn.Transport, err)
			return
		}
		if e := finish(talks[i], said[i]); e.status == nil || e.status.Code != codes.OK || e.replies != said[i] {
			t.Errorf("%s: %v, want OK after %d replies", talks[i].conn.Transport, e, said[i])
		}
	})
	records := b.records(t)
	for i, talk := range talks {
		record := records[talk.id]
		if total += said[i]; said[i] < 2 {
			t.Errorf("%s: a stream was silent during the reloads", talk.conn.Transport)
		}
		if uint64(record.Received) != said[i] || uint64(record.Sent) != said[i] || record.Fault != "" || record.Attempts != 1 {
			t.Errorf("%s: the backend received %d and sent %d of %d messages (%q)", talk.conn.Transport, record.Received, record.Sent, said[i], record.Fault)
		}
	}
	t.Logf("%d messages each way", total)
	if err := eventually(20*time.Second, func() error { // culvert closes what it replaced
		if n := b.connections(t); n > 1 {
			return fmt.Errorf("the backend has %d connections", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestFileIsReloadedWhenItChanges changes the file as editors and the kubelet do, and
// sends no signal.
func TestFileIsReloadedWhenItChanges(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	content := func(seconds int) []byte { return fmt.Appendf(nil, "drain_timeout: %ds\n", seconds) }
	in := func(steps ...error) {
		t.Helper()
		for _, err := range steps {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("editor", func(t *testing.T) {
		t.Parallel()
		r := startReloads(t, b, t.TempDir(), "drain_timeout: 1s\n")
		talks := talkPlainly(t, r.address)
		in(os.Rename(r.file, r.file+"~"), os.WriteFile(r.file, content(2), 0o600), os.Remove(r.file+"~")) // vim
		r.becomes(t, "drain_timeout")
		replaceFile(t, r.file, content(3)) // sed -i, ansible
		r.becomes(t, "drain_timeout")
		in(os.WriteFile(r.file, nil, 0o600)) // a slow program
		r.refuses(t, "sets no key")
		in(os.WriteFile(r.file, content(4), 0o600))
		r.becomes(t, "drain_timeout")
		in(os.WriteFile(r.file, []byte("drain_timeout: 4\n"), 0o600))
		r.refuses(t, r.file+":1: drain_timeout")
		if body := readiness(t, r.culvert); !strings.Contains(body, r.file) {
			t.Errorf("readyz doesn't tell of the rejected file: %q", body)
		}
		in(os.WriteFile(r.file, content(5), 0o600))
		r.becomes(t, "drain_timeout")
		stillTalk(t, talks, 1, true)
	})
	t.Run("certificates", func(t *testing.T) {
		t.Parallel()
		ca, dir := newIssuer(t, "ca"), t.TempDir()
		tls := func(name string) string {
			writePair(t, dir, name, ca.issue(name))
			return fmt.Sprintf("tls: {cert: %s/%s.pem, key: %[1]s/%[2]s.key}\n", dir, name)
		}
		r := startReloads(t, b, dir, tls("first"))
		talks := talkOver(t, r.address, ca.trusting())
		replaceFile(t, r.file, []byte(tls("second")))
		r.becomes(t, "tls.cert")
		if got, err := shownTo(r.address, ca.trusting()); err != nil || got != "second" {
			t.Errorf("after the reload: %s, %v", got, err)
		}
		stillTalk(t, talks, 1, false)
		replaceFile(t, r.file, []byte(tls("third")+"health: {listen: \":0\"}\n")) // a flag sets it
		r.becomes(t, "tls.cert")
		replaceFile(t, r.file, []byte(fmt.Sprintf("tls: {cert: %s/none.pem, key: %[1]s/none.key}\n", dir)))
		r.refuses(t, r.file+":1: tls.cert: ")
		if got, err := shownTo(r.address, ca.trusting()); err != nil || got != "third" {
			t.Errorf("after a wrong file: %s, %v", got, err)
		}
		stillTalk(t, talks, 2, true)
	})
	t.Run("backends", func(t *testing.T) {
		t.Parallel()
		first, second := startBackend(t, backendOptions{}), startBackend(t, backendOptions{})
		file := filepath.Join(t.TempDir(), "proxy.yaml")
		use := func(name string, b *backend) []byte {
			return fmt.Appendf(nil, "listen: 127.0.0.1:0\nbackends: [{name: %s, address: %q}]\n", name, b.address)
		}
		in(os.WriteFile(file, use("first", first), 0o600))
		r := &reloads{file: file, culvert: &culvert{process: startProcess(t, "culvert", "", culvertProgram, "serve", "--health-listen", "127.0.0.1:0", "--config", file)}}
		r.address = r.logged(t, "listening", "address")["address"].(string)
		talks := talkPlainly(t, r.address)
		replaceFile(t, file, use("second", second))
		r.becomes(t, "backends[0].address")
		later := talkPlainly(t, r.address)
		for i, talk := range talks { // each calls where it began
			if old, new := first.records(t), second.records(t); old[talk.id].Received == 0 || new[later[i].id].Received == 0 {
				t.Errorf("%s: a call went to the wrong backend", talk.conn.Transport)
			}
		}
		stillTalk(t, talks, 1, true)
		if err := eventually(20*time.Second, func() error {
			if n := first.connections(t); n > 0 {
				return fmt.Errorf("the removed backend has %d connections", n)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		stillTalk(t, later, 1, true)
	})
	t.Run("kubelet", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		mount := func(version string, seconds int) {
			in(os.Mkdir(filepath.Join(dir, version), 0o700), os.WriteFile(filepath.Join(dir, version, "proxy.yaml"), content(seconds), 0o600),
				os.Symlink(version, filepath.Join(dir, "..data_tmp")), os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		}
		mount("..1", 1)
		in(os.Symlink("..data/proxy.yaml", filepath.Join(dir, "proxy.yaml")))
		r := startReloads(t, b, dir, "")
		talks := talkPlainly(t, r.address)
		for i := 2; i < 5; i++ {
			mount(fmt.Sprintf("..%d", i), i)
			in(os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", i-1))))
			r.becomes(t, "drain_timeout")
		}
		stillTalk(t, talks, 1, true)
	})
}

// talkPlainly is talkOver without TLS.
func talkPlainly(t *testing.T, address string) []*call {
	t.Helper()
	var talks []*call
	for _, transport := range wire.All {
		talk := open(t, dial(t, transport, address), wire.Bidi, probe.Script{Echo: true})
		say(t, talk, 0)
		talks = append(talks, talk)
	}
	return talks
}
