package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// A network is a network namespace with one cable to the outside, for silence
// that is real: the packets stop, and no end is told.
type network struct {
	name    string
	inside  string // the address of the namespace's end of the cable
	outside string // the address of our end
	device  string // inside
	cable   string // our end of the cable
}

// networks are those that were made.
var networks struct {
	mu  sync.Mutex
	all []*network
}

// newNetwork makes a network that stays until all tests have ended. Silence can't
// be tested without it, so where it can't be made the test fails.
//
// Call it before t.Parallel: when an address of its host comes or goes, Chromium
// gives up its HTTP/2 connections, also those to other addresses, and the browser
// may be another test's.
func newNetwork(t testing.TB) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a network namespace needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)")
	}
	for program, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("a network namespace needs the package %s: %v", pkg, err)
		}
	}
	networks.mu.Lock()
	defer networks.mu.Unlock()
	index := len(networks.all) + 1
	// A network of 4 addresses out of 198.18.0.0/15, which RFC 2544 keeps for tests.
	at := (os.Getpid()*16 + index) % (1 << 15) * 4
	n := &network{
		name:    fmt.Sprintf("e2e-%d-%d", os.Getpid(), index),
		inside:  fmt.Sprintf("198.%d.%d.%d", 18+at>>16, at>>8&0xff, at&0xff|2),
		outside: fmt.Sprintf("198.%d.%d.%d", 18+at>>16, at>>8&0xff, at&0xff|1),
		device:  fmt.Sprintf("i%x-%d", os.Getpid(), index),
		cable:   fmt.Sprintf("o%x-%d", os.Getpid(), index),
	}
	command(t, "ip", "netns", "add", n.name)
	networks.all = append(networks.all, n)
	command(t, "ip", "link", "add", n.cable, "type", "veth", "peer", "name", n.device, "netns", n.name)
	command(t, "ip", "link", "set", n.cable, "addrgenmode", "none") // else an IPv6 address comes after 2 s, beside the parallel tests
	command(t, "ip", "address", "add", n.outside+"/30", "dev", n.cable)
	command(t, "ip", "link", "set", n.cable, "up")
	command(t, "ip", "-n", n.name, "address", "add", n.inside+"/30", "dev", n.device)
	command(t, "ip", "-n", n.name, "link", "set", n.device, "up")
	command(t, "ip", "-n", n.name, "link", "set", "lo", "up")
	return n
}

// removeNetworks takes the cables with it.
func removeNetworks() error {
	var errs []error
	for _, n := range networks.all {
		if text, err := exec.Command("ip", "netns", "del", n.name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("ip netns del: %w: %s", err, text))
		}
	}
	return errors.Join(errs...)
}

// silence drops every packet on the cable, both ways.
func (n *network) silence(t testing.TB) {
	t.Helper()
	rules := fmt.Sprintf(`table inet e2e {
		chain in { type filter hook input priority 0; iifname %[1]q drop; }
		chain out { type filter hook output priority 0; oifname %[1]q drop; }
	}`, n.device)
	cmd := exec.Command("ip", "netns", "exec", n.name, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, text)
	}
}

// restore ends the silence.
func (n *network) restore(t testing.TB) {
	t.Helper()
	command(t, "ip", "netns", "exec", n.name, "nft", "delete", "table", "inet", "e2e")
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if text, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, text)
	}
}
