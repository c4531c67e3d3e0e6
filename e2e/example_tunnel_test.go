package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Agents fall back to WebSockets, move between transports under load, and lose no request;
// slow bodies stop no other; trailers and health cross.
func TestExampleAgentTunnel(t *testing.T) {
	t.Parallel()
	text := checkExample(t, "agent-tunnel",
		`^check +8 agents by native gRPC; 2 by WebSocket, because the firewall cut [1-9]\d* HTTP/2 connections$`,
		`^check +trailers arrive: that of a request at oslo's web server, those of the response here$`,
		`^check +2 slow bodies of 64 MiB wait in oslo's tunnel, .*; beside them 300 requests, 0 failed, the slowest took`,
		`^check +then both arrive whole$`,
		`^check +20 % to WebSockets: 1 of 8 agents are there, `,
		`^check +50 % to WebSockets: 4 of 8 agents are there, `,
		`^check +100 % to WebSockets: 8 of 8 agents are there, `,
		`^check +50 % to WebSockets: 4 of 8 agents are there, `,
		`^check +0 % to WebSockets: 0 of 8 agents are there, `,
		`^check +\d{2,} requests during 5 moves, 0 failed$`,
		`^check +a download that began before the moves is whole; each agent has one tunnel again$`,
		`^check +porto is unhealthy: its requests get 503, the other agents serve 20 requests, 0 failed$`,
		`^check +porto is healthy again, and serves$`,
		`^culvert +/tunnel.v1.Edge/ForwardHTTP over .*: OK$`,
	)
	for _, line := range []string{"cairo      joined by WebSocket", "kyoto      joined by WebSocket", "ForwardHTTP over grpc", "ForwardHTTP over h2ts+grpc"} {
		if !strings.Contains(text, line) {
			t.Errorf("no line has %q:\n%s", line, text)
		}
	}
	if ended := regexp.MustCompile(`(?m)^.*(the tunnel over|ForwardHTTP.*CANCELLED).*$`).FindString(text); ended != "" {
		t.Errorf("a tunnel broke: %s", ended)
	}
}

// A body of 1 GiB inside a tunnel grows culvert by less than 10 MiB.
func TestExampleTunnelCarriesGigabytes(t *testing.T) {
	for _, c := range []struct {
		agent, joined string
		down, up      int64
	}{
		{"oslo", "native gRPC", 1024 * mib, 128 * mib},
		{"cairo", "WebSocket", 128 * mib, 1024 * mib},
	} {
		t.Run(strings.ReplaceAll(c.joined, " ", "_"), func(t *testing.T) {
			p := startExample(t, "agent-tunnel")
			line, _, err := p.output.find(t.Context(), 0, regexp.MustCompile(`^edge +all agents: `).MatchString)
			if err != nil {
				t.Fatal(err)
			}
			edge := regexp.MustCompile(`http://(127\S+)/`).FindStringSubmatch(line)[1]
			if _, _, err := p.output.find(t.Context(), 0, regexp.MustCompile(`^`+c.agent+` +joined by `+c.joined).MatchString); err != nil {
				t.Fatal(err)
			}
			proxy := child(t, p)
			moveBodies(t, edge, c.agent, mib, mib)
			before := proxy.rss(t)
			proxy.resetPeak(t)
			began := time.Now()
			moveBodies(t, edge, c.agent, c.down, c.up)
			grown := proxy.peak(t) - before
			t.Logf("%d MiB down and %d MiB up in %v: culvert has %d KiB, and grew by %d", c.down/mib, c.up/mib, time.Since(began).Round(time.Millisecond), before/kib, grown/kib)
			if grown >= 10*mib {
				t.Errorf("culvert grew by %d KiB, want less than 10 MiB", grown/kib)
			}
			p.signal(t, syscall.SIGTERM)
			if code := p.wait(t, patience); code != 0 {
				t.Errorf("after SIGTERM the example ended with %d", code)
			}
		})
	}
}

// moveBodies downloads a body from an agent's web server, and uploads one.
func moveBodies(t *testing.T, edge, agent string, down, up int64) {
	t.Helper()
	moveBody(t, agent, http.MethodGet, fmt.Sprintf("http://%s/bytes/%d", edge, down), nil, down)
	answer := fmt.Sprintf("%d bytes\n", up)
	moveBody(t, agent, http.MethodPost, "http://"+edge+"/sum", io.LimitReader(endless{}, up), int64(len(answer)))
}

func moveBody(t *testing.T, agent, method, url string, body io.Reader, want int64) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = agent + ".localhost"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if n != want || err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s with %d bytes, %v; want %d", method, url, res.Status, n, err, want)
	}
}

// endless is a body of zeros without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// child returns the culvert that an example has started, to look at its memory.
func child(t *testing.T, p *process) *process {
	t.Helper()
	tasks, err := os.ReadDir(p.proc("task"))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		text, err := os.ReadFile(p.proc("task/" + task.Name() + "/children"))
		if err != nil {
			t.Fatal(err)
		}
		for id := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(id)
			if err != nil {
				t.Fatal(err)
			}
			return &process{name: "culvert", cmd: &exec.Cmd{Process: &os.Process{Pid: pid}}}
		}
	}
	t.Fatal("the example has no child")
	return nil
}
