package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A heldLog is culvert's standard error: a pipe that is read only when the test
// reads it.
type heldLog struct {
	pipe  *os.File
	lines *bufio.Reader
}

// startWithHeldLog starts culvert with its log in a pipe, of which nothing is
// read once culvert serves.
func startWithHeldLog(t *testing.T, target string, args ...string) (*culvert, *heldLog) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // a test may have closed it
	argv := append([]string{"serve", "--backend", target, "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"}, args...)
	cmd := exec.Command(culvertProgram, argv...)
	cmd.Stderr, cmd.Env = w, environment()
	c := &culvert{process: &process{name: "culvert", cmd: cmd, output: newOutput(), exited: make(chan struct{})}}
	c.follow(t, io.NopCloser(strings.NewReader("")), w)
	log := &heldLog{pipe: r, lines: bufio.NewReader(r)}
	c.address = log.until(t, "listening", "address")["address"].(string)
	c.health = log.until(t, "health", "address")["address"].(string)
	return c, log
}

// next returns the fields of the next line, nil at the log's end. A line that
// isn't whole fails the test.
func (l *heldLog) next(t *testing.T) map[string]any {
	t.Helper()
	text, err := l.lines.ReadString('\n')
	if errors.Is(err, io.EOF) && text == "" {
		return nil
	}
	var line map[string]any
	if jsonErr := json.Unmarshal([]byte(text), &line); err != nil || jsonErr != nil {
		t.Fatalf("the log has the line %.300q: %v, %v", text, err, jsonErr)
	}
	return line
}

// until reads to the line that mentions the words and has texts in the named fields.
func (l *heldLog) until(t *testing.T, words string, fields ...string) map[string]any {
	t.Helper()
	if err := l.pipe.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		line := l.next(t)
		if line == nil {
			t.Fatalf("the log ended without a line about %q with %q", words, fields)
		}
		if mentions(line, words) && has(line, fields...) {
			return line
		}
	}
}

// callAll makes n calls over one connection, each of which has a log line.
func callAll(t *testing.T, c *culvert, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := dial(t, wire.GRPC, c.address)
	for i := range n {
		if err := unary(ctx, conn, fmt.Sprintf("log-%d", i)); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

// fillLog makes n calls of methods whose names are long, so that their lines
// fill the pipe and all that culvert keeps for it.
func fillLog(t *testing.T, c *culvert, n int) {
	t.Helper()
	const clients = 8
	var work sync.WaitGroup
	for worker := range clients {
		conn := dial(t, wire.GRPC, c.address)
		work.Go(func() {
			for i := range n / clients {
				method := fmt.Sprintf("/fill.%d.%d.%s/Method", worker, i, strings.Repeat("x", 980))
				call, err := conn.Post(t.Context(), method, wire.Metadata("fill", probe.Script{}), wire.Request(0, 0))
				if err != nil {
					t.Errorf("call %d of %d: %v", i, worker, err)
					return
				}
				if e := finish(call, 0); e.status == nil {
					t.Errorf("call %d of %d: %v", i, worker, e)
					return
				}
				call.Close()
			}
		})
	}
	work.Wait()
}

func wantHealthy(t *testing.T, c *culvert) {
	t.Helper()
	for _, page := range []string{"/livez", "/readyz"} {
		if code := c.ask(page); code != http.StatusOK {
			t.Errorf("%s is %d", page, code)
		}
	}
}

// Nobody reads the log: calls go on, what doesn't fit is counted, and the count
// is in the log once it is read again.
func TestUnreadLogStopsNoCall(t *testing.T) { // alone: thousands of calls take all of the machine
	b := startBackend(t, backendOptions{})
	c, log := startWithHeldLog(t, b.address)
	const calls, fill = 1000, 4000
	callAll(t, c, calls)
	fillLog(t, c, fill)
	wantHealthy(t, c)

	told := make(chan float64, 1)
	ids := 0
	seen := 0
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(told)
		for {
			switch line := log.next(t); {
			case line == nil:
				return
			case line["dropped"] != nil:
				told <- line["dropped"].(float64)
			case line["msg"] == "call":
				seen++
				if method, _ := line["method"].(string); method == wire.Unary {
					ids++
				}
			}
		}
	})
	if err := log.pipe.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	dropped := await(t, told, patience, "the count of dropped lines")
	if ids != calls {
		t.Errorf("%d of %d calls that were made before the log was full are in it", ids, calls)
	}
	t.Logf("%v lines dropped", dropped)
	if dropped < 1 {
		t.Error("no lines were dropped: the test doesn't fill the log")
	}
	c.signal(t, syscall.SIGTERM)
	if code := c.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	for more := range told {
		dropped += more
	}
	reading.Wait()
	if seen+int(dropped) != calls+fill {
		t.Errorf("%d lines of calls and %v dropped ones are not the %d calls", seen, dropped, calls+fill)
	}
}

// Nobody reads the log: TERM drains as ever, and the end waits for the log for
// a second.
func TestUnreadLogDoesntHoldUpTheEnd(t *testing.T) { // alone: thousands of calls take all of the machine
	for _, signals := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d signals", signals), func(t *testing.T) {
			t.Parallel()
			b := startBackend(t, backendOptions{})
			c, _ := startWithHeldLog(t, b.address)
			fillLog(t, c, 4000)
			want := 0
			if signals == 2 {
				want = 1
				post(t, dial(t, wire.Web, c.address), wire.ServerStream, probe.Script{Hang: true})
			}
			began := time.Now()
			c.signal(t, syscall.SIGTERM)
			if signals == 2 {
				if err := eventually(patience, func() error {
					if code := c.ask("/readyz"); code != http.StatusServiceUnavailable {
						return fmt.Errorf("readyz is %d", code)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
				c.signal(t, syscall.SIGINT)
			}
			if code := c.wait(t, patience); code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			if took := time.Since(began); took > cutIsSeen {
				t.Errorf("the end took %v", took)
			}
		})
	}
}

// An error that ends culvert doesn't wait for a reader either.
func TestUnreadLogDoesntHoldUpAFailure(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }() // nobody reads it
	full := make([]byte, 1<<16)
	if _, err := w.Write(full); err != nil {
		t.Fatal(err)
	}
	b := startBackend(t, backendOptions{})
	cmd := exec.Command(culvertProgram, "serve", "--backend", "localhost:1", "--health-listen", "off", "--listen", b.address) // taken
	cmd.Stderr, cmd.Env = w, environment()
	p := &process{name: "culvert", cmd: cmd, output: newOutput(), exited: make(chan struct{})}
	p.follow(t, io.NopCloser(strings.NewReader("")), w)
	if code := p.wait(t, patience); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

// The log's reader goes away: culvert doesn't.
func TestClosedLogEndsNothing(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c, log := startWithHeldLog(t, b.address)
	if err := log.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 { // lines of calls are written after a moment
		callAll(t, c, 50)
		pause := time.NewTimer(200 * time.Millisecond)
		<-pause.C
	}
	wantHealthy(t, c)
	c.signal(t, syscall.SIGTERM)
	if code := c.wait(t, patience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// TestChattyMethodsHaveFewLines makes calls that succeed and calls that fail, and then
// removes the rule by a reload.
func TestChattyMethodsHaveFewLines(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startReloads(t, b, t.TempDir(), "log: {sample: [{pattern: culvert.e2e.v1.Probe/*, one_in: 5}]}\n")
	conn := dial(t, wire.GRPC, c.address)
	calls := func(n int, script probe.Script) {
		t.Helper()
		for range n {
			finish(post(t, conn, wire.Unary, script), 0)
		}
	}
	calls(6, probe.Script{})
	calls(2, probe.Script{Code: uint32(codes.NotFound)})
	replaceFile(t, c.file, []byte("drain_timeout: 3s\n"))
	c.becomes(t, "log.sample")
	calls(2, probe.Script{})
	c.signal(t, syscall.SIGTERM)
	c.wait(t, patience)
	var got []string
	for _, text := range c.output.all() {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == "call" && strings.HasSuffix(fmt.Sprint(line["method"]), "/Unary") {
			got = append(got, fmt.Sprint(line["code"], " ", line["not_logged"]))
		}
	}
	want := []string{"OK 0", "OK 4", "NOT_FOUND <nil>", "NOT_FOUND <nil>", "OK <nil>", "OK <nil>"}
	if !slices.Equal(got, want) {
		t.Errorf("the lines of calls have code and not_logged %q, want %q", got, want)
	}
}

// TestFieldsOfCalls: over each transport, the lines of a call's begin and end have what the
// operator asks for and the client sends, until a reload.
func TestFieldsOfCalls(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startReloads(t, b, t.TempDir(), "log: {fields: [host, metadata.x-tenant], begin: true}\n")
	call := func(transport wire.Transport) {
		t.Helper()
		conn := dial(t, transport, c.address)
		defer conn.Close()
		md := wire.Metadata(newID(t), probe.Script{})
		md.Set("x-tenant", `blue "level":"ERROR"`)
		md.Set("authorization", "Bearer hidden-e2e")
		call, err := conn.Post(t.Context(), wire.Unary, md, wire.Request(0, 0))
		if err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
		finish(call, 0)
		call.Close()
	}
	for _, transport := range wire.All {
		call(transport)
	}
	replaceFile(t, c.file, []byte("drain_timeout: 3s\n"))
	c.becomes(t, "log.fields log.begin")
	call(wire.GRPC)
	c.signal(t, syscall.SIGTERM)
	c.wait(t, patience)
	var began, ended []string
	for _, text := range c.output.all() {
		if strings.Contains(text, "hidden-e2e") {
			t.Errorf("the log has a secret: %s", text)
		}
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) != nil || !strings.HasSuffix(fmt.Sprint(line["method"]), "/Unary") {
			continue
		}
		fields := fmt.Sprint(line["host"] == c.address, " ", line["metadata.x-tenant"])
		if line["msg"] == "call began" {
			began = append(began, fields)
		} else {
			ended = append(ended, fields)
		}
	}
	want := slices.Repeat([]string{`true blue "level":"ERROR"`}, len(wire.All))
	if !slices.Equal(began, want) {
		t.Errorf("the lines of begins have %q, want %q", began, want)
	}
	if want = append(want, "false <nil>"); !slices.Equal(ended, want) {
		t.Errorf("the lines of ends have %q, want %q", ended, want)
	}
}
