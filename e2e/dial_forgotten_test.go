package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestDialForgotten: a firewall forgets the connections to the service, and lets new ones pass.
// Calls through culvert dial end soon, quiet ones as well as those with bytes under way.
func TestDialForgotten(t *testing.T) {
	n := newNetwork(t)
	t.Parallel()
	b := startBackend(t, backendOptions{namespace: n.name, listen: n.inside + ":0"})
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			late := lateness(t)
			edge := startCulvert(t, b.address, culvertOptions{namespace: n.name, listen: n.inside + ":0"})
			d := startDial(t, "http://"+edge.address, "--via", way)
			var calls []*call
			for range 2 {
				c := open(t, dial(t, wire.GRPC, d.address), wire.Bidi, probe.Script{Echo: true})
				if err := converse(c, 0); err != nil {
					t.Fatal(err)
				}
				calls = append(calls, c)
			}
			n.forget(t, edge.address)
			ends := make(chan []end, 1) // it may be read late
			go func() {
				waiting := finishing(calls)
				_ = calls[0].Send(wire.Request(conversation, 1000)) // its end tells
				ends <- <-waiting
			}()
			for i, e := range await(t, ends, patience, "the calls' ends") {
				// Those are the replies of converse.
				if e.status == nil || e.status.Code != codes.Unavailable || e.status.Reason() == "" {
					t.Errorf("call %d: %v, want %v with a reason", i, e, codes.Unavailable)
				}
				if most := noticedWithin + late(); e.after > most {
					t.Errorf("call %d ended after %v, want at most %v", i, e.after, most)
				}
				t.Logf("call %d: %v, %v", i, e.after, e)
			}
			if err := works(t, wire.GRPC, d.address, patience); err != nil {
				t.Errorf("a new call: %v", err)
			}
		})
	}
}

// forget drops every packet of the connections that there are to an address, both ways.
func (n *network) forget(t testing.TB, address string) {
	t.Helper()
	list, err := exec.Command("ss", "--tcp", "--numeric", "--no-header", "dst", address).CombinedOutput()
	if err != nil {
		t.Fatalf("ss: %v: %s", err, list)
	}
	var ports []string
	for _, found := range regexp.MustCompile(`:(\d+)\s+`+regexp.QuoteMeta(address)).FindAllSubmatch(list, -1) {
		ports = append(ports, string(found[1]))
	}
	if len(ports) == 0 {
		t.Fatalf("no connections to %s: %s", address, list)
	}
	table := "forget_" + port(address)
	rules := fmt.Sprintf(`table inet %s {
		chain in { type filter hook input priority 0; tcp sport { %[2]s } tcp dport %[3]s drop; }
		chain out { type filter hook output priority 0; tcp dport { %[2]s } tcp sport %[3]s drop; }
	}`, table, strings.Join(ports, ", "), port(address))
	cmd := exec.Command("ip", "netns", "exec", n.name, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, text)
	}
}
