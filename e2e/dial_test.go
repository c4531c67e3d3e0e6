package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// ways are the values of --via.
var ways = []string{"grpc", "websocket", "grpc-web"}

// A dialled is culvert dial, running.
type dialled struct {
	*process
	address string // of its port
}

var dialledAt = regexp.MustCompile(` at (\S+), in plaintext$`)

// startDial starts culvert dial in front of an edge, and returns once its port is open.
func startDial(t testing.TB, edge string, args ...string) *dialled {
	t.Helper()
	argv := []string{culvertProgram, "dial", edge, "--listen", "127.0.0.1:0", "--proxy", "none"}
	p := startProcess(t, "dial", "", append(argv, args...)...)
	return &dialled{p, dialAddress(t, p)}
}

// dialAddress waits for the address that culvert dial prints.
func dialAddress(t testing.TB, p *process) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	line, _, err := p.output.find(ctx, 0, dialledAt.MatchString)
	if err != nil {
		t.Fatalf("culvert dial: %v", err)
	}
	return dialledAt.FindStringSubmatch(line)[1]
}

// startEdge starts culvert with TLS, and returns its URL and the file with its CA.
func startEdge(t testing.TB, b *backend) (edge, ca string) {
	t.Helper()
	authority := newIssuer(t, "edge")
	certFile, keyFile := writePair(t, t.TempDir(), "edge", authority.issue("edge"))
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--tls-cert", certFile, "--tls-key", keyFile}})
	return "https://" + c.address, authority.file
}

// startPython starts Debian's client for Python with jobs. It ends with the test.
func startPython(t *testing.T, jobs []job) *runner {
	t.Helper()
	generated := t.TempDir()
	if text, err := exec.Command("protoc", "--proto_path=e2epb", "--python_out="+generated, "e2epb/probe.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, text)
	}
	cmd := exec.Command("/usr/bin/python3", "client.py") // python3-grpcio is there
	cmd.Dir = "python"
	cmd.Env = append(os.Environ(), "PYTHONPATH="+generated, "PYTHONDONTWRITEBYTECODE=1")
	return startRunner(t, "python", cmd, jobs)
}

// TestDialedClients runs stock clients through culvert dial, by each way: they see what they
// would see of the edge.
func TestDialedClients(t *testing.T) {
	few := slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool {
		return !slices.Contains([]string{
			"unary", "server stream", "client stream", "bidi, each request after a reply", "replies before any request",
			"empty messages", "many both ways at once", "8 MiB in a message, both ways", "metadata of the request", "metadata of the response",
			"an error after replies", "rich details, byte by byte", "a hostile status message", "a deadline passes", "the client cancels",
		}, s.name)
	})
	if len(few) != 15 {
		t.Fatalf("%d scenarios: names have changed", len(few))
	}
	b := startBackend(t, backendOptions{})
	edge, ca := startEdge(t, b)
	m := &matrix{backend: b, seen: map[string]observation{}}
	of := map[string][]job{}
	for _, way := range ways {
		d := startDial(t, edge, "--via", way, "--ca", ca)
		for _, client := range []string{"node grpc-js", "python grpcio"} {
			for _, s := range few {
				if s.timeout > 0 && strings.HasPrefix(client, "python ") {
					continue // grpcio adds up to a millisecond to a time-out
				}
				s.place = ordinary // one after another
				j := s.job(t, client)
				j.Address, j.Scenario = "http://"+d.address, s.name+" by "+way
				platform, _, _ := strings.Cut(client, " ")
				m.jobs, of[platform] = append(m.jobs, j), append(of[platform], j)
			}
		}
	}
	m.collect(t, []*runner{startNode(t, "node", "node.js", of["node"]), startPython(t, of["python"])}, ordinary)
	for _, j := range m.jobs {
		t.Run(strings.ReplaceAll(j.Client+"/"+j.Scenario, " ", "_"), func(t *testing.T) {
			i := slices.IndexFunc(few, func(s scenario) bool { return strings.HasPrefix(j.Scenario, s.name+" by ") })
			if v := few[i].judge(t, m.seen[j.ID], b); len(v.problems) > 0 {
				t.Errorf("%s\nseen by the client: %+v", strings.Join(v.problems, "\n"), m.seen[j.ID])
			}
		})
	}
}

// grpcJava are the files of Debian's grpc-java, in /usr/share/java.
var grpcJava = strings.Fields("grpc-api grpc-context grpc-core grpc-netty grpc-stub guava netty-buffer netty-codec netty-codec-http netty-codec-http2 netty-common netty-handler netty-resolver netty-transport perfmark-api")

// TestDialedFromJava holds a conversation through culvert dial with Debian's grpc-java, by each way.
func TestDialedFromJava(t *testing.T) {
	edge, ca := startEdge(t, startBackend(t, backendOptions{}))
	var classes []string
	for _, name := range grpcJava {
		classes = append(classes, "/usr/share/java/"+name+".jar")
	}
	argv := []string{"-cp", strings.Join(classes, ":"), "java/Client.java"}
	for _, way := range ways {
		argv = append(argv, startDial(t, edge, "--via", way, "--ca", ca).address)
	}
	cmd := exec.CommandContext(t.Context(), "java", argv...)
	cmd.Env = append(os.Environ(), "SCRIPT="+probe.Script{Echo: true, AnyPayload: true, Code: uint32(codes.NotFound), Message: "the end"}.String())
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	lines := strings.Split(string(out), "\n")
	if err != nil || len(lines) < len(ways)*(conversation+1) {
		t.Fatalf("%v: %s%s", err, out, &problems)
	}
	for _, way := range ways {
		for n := range uint64(conversation) {
			reply := new(e2epb.Reply)
			b, err := base64.StdEncoding.DecodeString(lines[n])
			if err := errors.Join(err, proto.Unmarshal(b, reply)); err != nil || reply.GetSequence() != n {
				t.Fatalf("%s: %q, want reply %d (%v)", way, lines[n], n, err)
			}
		}
		if end := lines[conversation]; !strings.Contains(end, "code=NOT_FOUND, description=the end") {
			t.Errorf("%s: the status is %s", way, end)
		}
		lines = lines[conversation+1:]
	}
}

// TestDialKilled: if the edge ends, calls through culvert dial end UNAVAILABLE with culvert's
// reason, and the port serves again once the edge is back.
func TestDialKilled(t *testing.T) {
	b := startBackend(t, backendOptions{})
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			edge := startCulvert(t, b.address, culvertOptions{})
			d := startDial(t, "http://"+edge.address, "--via", way)
			conn := dial(t, wire.GRPC, d.address)
			c := open(t, conn, wire.Bidi, probe.Script{Replies: 1, RepliesFirst: true, Hang: true})
			if _, err := wire.RecvReply(c, 0); err != nil {
				t.Fatal(err)
			}
			edge.kill(t)
			if e := finish(c, 1); e.status == nil || e.status.Code != codes.Unavailable || e.status.Reason() == "" {
				t.Errorf("the call ended %v, want %v with a reason", e, codes.Unavailable)
			}
			startCulvert(t, b.address, culvertOptions{listen: edge.address})
			if err := works(t, wire.GRPC, d.address, patience); err != nil {
				t.Errorf("after the edge has come back: %v", err)
			}
		})
	}
}

// TestDialOnce runs commands that find the port in CULVERT_DIAL. dial ends with them: with
// their exit code, also after a signal, which it passes on.
func TestDialOnce(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	edge, ca := startEdge(t, b)
	once := func(t *testing.T, script string) *process {
		t.Helper()
		return startDial(t, edge, "--ca", ca, "--once", "--", "sh", "-c", script).process
	}
	// A shell that waits is interrupted by signals, and its sleep ends with it.
	const wait = `sleep 600 & p=$!; trap 'kill $p; exit 9' TERM USR1; echo "the port is $CULVERT_DIAL"; wait`
	for name, c := range map[string]struct {
		script string
		signal syscall.Signal
		code   int
	}{
		"exit code":   {"exit 7", 0, 7},
		"success":     {"true", 0, 0},
		"killed":      {"kill -KILL $$", 0, 128 + int(syscall.SIGKILL)},
		"passes TERM": {wait, syscall.SIGTERM, 9},
		"passes USR1": {wait, syscall.SIGUSR1, 9},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := once(t, c.script)
			if c.signal != 0 {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				line, _, err := p.output.find(ctx, 0, func(l string) bool { return strings.HasPrefix(l, "the port is ") })
				if err != nil {
					t.Fatal(err)
				}
				if err := works(t, wire.GRPC, strings.TrimPrefix(line, "the port is "), patience); err != nil {
					t.Errorf("a call to %q: %v", line, err)
				}
				p.signal(t, c.signal)
			}
			if code := p.wait(t, patience); code != c.code {
				t.Errorf("exit code %d, want %d:\n%s", code, c.code, p.output.tail(10))
			}
		})
	}
}

// TestDialOnceOnATerminal: the command gets Ctrl-C once, from the terminal, wherever its input comes
// from.
func TestDialOnceOnATerminal(t *testing.T) {
	master, slave := openTerminal(t)
	const counts = `n=0; trap 'n=$((n+1)); echo "INT $n"' INT; trap 'kill $p; echo "TERM after $n"; exit 5' TERM; sleep 600 & p=$!; echo ready; while :; do wait; done`
	cmd := exec.Command(culvertProgram, "dial", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--proxy", "none", "--once", "--", "sh", "-c", counts)
	cmd.Stdout, cmd.Stderr, cmd.Env = slave, slave, environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	p := &process{name: "dial", cmd: cmd, output: newOutput(), exited: make(chan struct{})}
	p.follow(t, master, slave)
	said := func(want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, _, err := p.output.find(ctx, 0, func(l string) bool { return strings.Contains(l, want) }); err != nil {
			t.Fatal(err)
		}
	}
	said("ready")
	if _, err := master.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	said("INT 1")
	p.signal(t, syscall.SIGTERM) // dial has passed on by then what it passes on
	said("TERM after 1")
	if code := p.wait(t, patience); code != 5 {
		t.Errorf("exit code %d", code)
	}
}

// TestDialTellsSystemd when its port is open and when it ends.
func TestDialTellsSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = systemd.Close() }() // all was read
	said := func(want string) {
		t.Helper()
		_ = systemd.SetReadDeadline(time.Now().Add(patience)) // it is open
		message := make([]byte, 1024)
		n, err := systemd.Read(message)
		if err != nil || !bytes.Contains(message[:n], []byte(want)) {
			t.Errorf("systemd was told %q (%v), want %s", message[:n], err, want)
		}
	}
	p := startProcess(t, "dial", "", "env", "NOTIFY_SOCKET="+socket, culvertProgram, "dial", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--proxy", "none")
	said("READY=1")
	dialAddress(t, p)
	p.signal(t, syscall.SIGTERM)
	said("STOPPING=1")
	if code := p.wait(t, patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDialOnATerminal shows one line of state below the port's address, which stays.
func TestDialOnATerminal(t *testing.T) {
	b := startBackend(t, backendOptions{})
	edge := startCulvert(t, b.address, culvertOptions{})
	master, slave := openTerminal(t)
	cmd := exec.Command(culvertProgram, "dial", "http://"+edge.address, "--listen", "127.0.0.1:0", "--proxy", "none")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(environment(), "TERM=xterm-256color")
	p := &process{name: "dial", cmd: cmd, output: newOutput(), exited: make(chan struct{})}
	p.follow(t, master, slave)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	onTerminal := regexp.MustCompile(` at (\S+), in plaintext`)
	line, _, err := p.output.find(ctx, 0, onTerminal.MatchString)
	if err != nil {
		t.Fatal(err)
	}
	address := onTerminal.FindStringSubmatch(line)[1]
	if err := works(t, wire.GRPC, address, patience); err != nil {
		t.Fatal(err)
	}
	edge.kill(t)
	startCulvert(t, b.address, culvertOptions{listen: edge.address})
	if err := works(t, wire.GRPC, address, patience); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t, patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var screen []string // what somebody sees in the end
	for _, l := range p.output.all() {
		if i := strings.LastIndex(l, "\x1b[K"); i >= 0 {
			if l[i-1] != '\r' {
				t.Errorf("a line is erased from its middle: %q", l)
			}
			l = l[i+len("\x1b[K"):]
		}
		screen = append(screen, strings.TrimSuffix(l, "\r"))
	}
	// What is longer than a line stays: why there was no way for a moment, if a call saw it.
	want := regexp.MustCompile(`^gRPC clients on this machine reach http://\S+ at \S+, in plaintext\n(no way to .+\n)?connected by grpc, \S+$`)
	if got := strings.TrimSuffix(strings.Join(screen, "\n"), "\n"); !want.MatchString(got) {
		t.Errorf("the terminal shows\n%s\nof\n%q", got, p.output.all())
	}
}

// TestDialSleeps: calls go on when culvert dial was stopped for a while, as a computer that
// sleeps. If the edge stops, they end UNAVAILABLE with a reason within 15 s, and the port serves
// again once the edge goes on.
func TestDialSleeps(t *testing.T) {
	const asleep = 20 * time.Second // less than the edge waits for a ping
	b := startBackend(t, backendOptions{})
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			edge := startCulvert(t, b.address, culvertOptions{})
			d := startDial(t, "http://"+edge.address, "--via", way)
			c := open(t, dial(t, wire.GRPC, d.address), wire.Bidi, probe.Script{Echo: true})
			say := func(n uint64) {
				t.Helper()
				if err := c.Send(wire.Request(n, 1000)); err != nil {
					t.Fatal(err)
				}
				if _, err := wire.RecvReply(c, n); err != nil {
					t.Fatal(err)
				}
			}
			say(0)
			d.signal(t, syscall.SIGSTOP)
			<-time.After(asleep)
			d.signal(t, syscall.SIGCONT)
			say(1)
			edge.signal(t, syscall.SIGSTOP)
			begun := time.Now()
			e := finish(c, 2)
			edge.signal(t, syscall.SIGCONT)
			if e.status == nil || e.status.Code != codes.Unavailable || e.status.Reason() == "" {
				t.Errorf("the call ended %v, want %v with a reason", e, codes.Unavailable)
			}
			t.Log(time.Since(begun), e.status)
			if err := works(t, wire.GRPC, d.address, patience); err != nil {
				t.Errorf("after the edge goes on: %v", err)
			}
		})
	}
}
