package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// Each limit, origin and rule applies to new calls and connections without a restart,
// and calls on all transports that run take no notice.
func TestLimitsChangeWithoutARestart(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	r := startReloads(t, b, t.TempDir(), "errors: concise\n")
	talks := talkPlainly(t, r.address)
	ask := func(script probe.Script, requestBytes int, md ...string) end {
		sent := wire.Metadata(newID(t), script)
		if len(md) == 2 {
			sent[md[0]] = []string{md[1]}
		}
		asked, err := dial(t, wire.Web, r.address).Post(t.Context(), wire.ServerStream, sent, wire.Request(0, requestBytes))
		if err != nil {
			return end{err: err}
		}
		defer asked.Close()
		return finish(asked, 0)
	}
	// ends wants that a call ends with a text in its status or its HTTP answer.
	ends := func(text string, e end) error {
		if got := fmt.Sprint(e, e.err); e.status == nil && !strings.Contains(got, text) || e.status != nil && !strings.Contains(e.status.Message, text) {
			return fmt.Errorf("a call ends with %s, want %s in it", got, text)
		}
		return nil
	}
	answered := func(request, want string) error {
		if got := answerTo(t, "127.0.0.1", r.address, request); got != want {
			return fmt.Errorf("the answer to %q is %q, want %q", request, got, want)
		}
		return nil
	}
	// goodbye wants that a new connection gets one before its patience is over.
	goodbye := func() error {
		conn := dialRaw(t, r.address)
		defer func() { _ = conn.Close() }()                    // it is over
		_ = conn.SetDeadline(time.Now().Add(45 * time.Second)) // an idle connection lives for a minute by default
		if err := beginHTTP2(conn); err != nil {
			return err
		}
		framer := http2.NewFramer(conn, bufio.NewReader(conn))
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return fmt.Errorf("no GOAWAY: %w", err)
			}
			if _, ok := frame.(*http2.GoAwayFrame); ok {
				return nil
			}
		}
	}
	announces := func(id http2.SettingID, want uint32) error {
		conn := dialRaw(t, r.address)
		defer func() { _ = conn.Close() }() // it is over
		if err := beginHTTP2(conn); err != nil {
			return err
		}
		frame, err := http2.NewFramer(conn, bufio.NewReader(conn)).ReadFrame()
		if err != nil {
			return err
		}
		settings, _ := frame.(*http2.SettingsFrame)
		if n, _ := settings.Value(id); n != want {
			return fmt.Errorf("%v is %d, want %d", id, n, want)
		}
		return nil
	}
	const get, page = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "https://app.example"
	many := strings.Repeat("x", 9*kib)
	for i, one := range []struct {
		key, content string
		slow         bool // it takes a while to show
		applies      func() error
	}{
		{"limits.message_bytes", "limits: {message_bytes: 1KiB}", false, func() error {
			return ends("limits.message_bytes", ask(probe.Script{}, 2*kib))
		}},
		{"limits.header_bytes", "limits: {header_bytes: 8KiB}", false, func() error {
			return ends("limits.header_bytes", ask(probe.Script{}, 0, "x-large", many))
		}},
		{"limits.header_bytes", "limits: {header_bytes: 1KiB}", false, func() error {
			return errors.Join(announces(http2.SettingMaxHeaderListSize, 2*kib+10*32), ends("431", ask(probe.Script{}, 0, "x-large", many)))
		}},
		{"limits.buffered_bytes", "limits: {buffered_bytes: 100MiB}", false, func() error {
			if text := scrape(t, r.culvert); !strings.Contains(text, fmt.Sprintf("\nculvert_message_memory_limit_bytes %g\n", float64(100*mib))) {
				return errors.New("the metrics have another limit")
			}
			return nil
		}},
		{"limits.memory", "limits: {memory: 148MiB}", false, func() error {
			if text := scrape(t, r.culvert); !strings.Contains(text, fmt.Sprintf("\nculvert_client_memory_limit_bytes %g\n", float64(128*mib*65/100))) {
				return errors.New("the metrics have another limit")
			}
			return nil
		}},
		{"limits.calls", "limits: {calls: 1}", false, func() error {
			return ends("limits.calls", ask(probe.Script{}, 0))
		}},
		{"limits.address.calls", "limits: {address: {calls: 1}}", false, func() error {
			return ends("limits.address.calls", ask(probe.Script{}, 0))
		}},
		{"limits.methods", "limits: {methods: [{pattern: \"*/*\", message_bytes: 1KiB}]}", false, func() error {
			return ends("limits.methods[].message_bytes", ask(probe.Script{}, 2*kib))
		}},
		{"limits.connections", "limits: {connections: 1}", false, func() error { return answered(get, "503") }},
		{"limits.calls_per_connection", "limits: {calls_per_connection: 7}", false, func() error {
			return announces(http2.SettingMaxConcurrentStreams, 7)
		}},
		{"limits.address.connections", "limits: {address: {connections: 1}}", false, func() error { return answered(get, "503") }},
		{"limits.connection_idle_timeout", "limits: {connection_idle_timeout: 500ms}", true, goodbye},
		{"limits.connection_max_age", "limits: {connection_max_age: 500ms}", true, goodbye},
		{"limits.slow_consumer_timeout", "limits: {slow_consumer_timeout: 1s}", true, func() error {
			slow := post(t, dial(t, wire.GRPC, r.address), wire.ServerStream, probe.Script{Replies: 1 << 30, ReplyBytes: 64 * kib})
			wantCancelled(t, b, []*call{slow}, time.Now(), 20*time.Second)
			return nil
		}},
		{"limits.max_age", "limits: {max_age: 500ms}", true, func() error {
			return ends("limits.max_age", ask(probe.Script{Replies: 2, ReplyEvery: 2000}, 0))
		}},
		{"limits.idle_timeout", "limits: {idle_timeout: 500ms}", true, func() error {
			return ends("limits.idle_timeout", ask(probe.Script{Replies: 2, ReplyEvery: 2000}, 0))
		}},
		{"proxy_protocol", "proxy_protocol: [127.0.0.1]", false, func() error { return answered(get, "") }},
		{"allow_origins", "allow_origins: [\"" + page + "\"]", false, func() error {
			return answered("OPTIONS /a.B/C HTTP/1.1\r\nHost: localhost\r\nOrigin: "+page+"\r\nAccess-Control-Request-Method: POST\r\nConnection: close\r\n\r\n", "204")
		}},
		{"methods.deny", "methods: {deny: [\"culvert.*/*\"]}", false, func() error {
			return ends("methods.deny", ask(probe.Script{}, 0))
		}},
	} {
		if !one.slow {
			if err := one.applies(); err == nil {
				t.Errorf("%s applies before it is set", one.key)
			}
		}
		replaceFile(t, r.file, []byte("errors: detailed\n"+one.content+"\n"))
		r.signal(t, syscall.SIGHUP)
		r.becomes(t, one.key)
		if err := one.applies(); err != nil {
			t.Errorf("%s: %v", one.content, err)
		}
		stillTalk(t, talks, uint64(i+1), false)
		if t.Failed() {
			return
		}
	}
	replaceFile(t, r.file, []byte("errors: detailed\nlimits: {header_bytes: 65KiB}\n"))
	r.signal(t, syscall.SIGHUP)
	r.refuses(t, "limits.header_bytes: can't be raised above 64KiB, the value at the start, without a restart")
	replaceFile(t, r.file, []byte("errors: detailed\n"))
	r.becomes(t, "methods.deny")
	if e := ask(probe.Script{}, 0); e.status == nil || e.status.Code != 0 {
		t.Errorf("with the defaults again: %v", e)
	}
}

// scrape returns the metrics.
func scrape(t *testing.T, c *culvert) string {
	t.Helper()
	answer, err := http.Get("http://" + c.health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
