package e2e

import (
	"crypto/tls"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

var attackAll = flag.Bool("attack.all", false, "have TestMemoryAttacks run all its rows, not the short list")

// A memoryAttack is a row of TestMemoryAttacks: many calls that have culvert hold
// as much as it can be made to hold for them.
type memoryAttack struct {
	kind      string // as the attacker's
	transport wire.Transport
	tls       bool
	sources   int   // addresses that the calls come from
	calls     int   // in all
	memory    int64 // limits.memory; 0: unset
	container int64 // the limit of the cgroup that culvert is in; 0: it is in that of the tests
}

const (
	attackCalls    = 10_000
	answeredCalls  = 80_000
	withheldCalls  = 3000            // 250 KB each, which the backend makes, and delays other calls meanwhile
	attackDuration = 8 * time.Second // calls that stand still for 5 s may be ended
	sameTime       = 5 * time.Second // for a call from the attacker's address, which may fail
	defaultBudget  = 256 * mib       // limits.buffered_bytes
)

// attackTransports are those whose calls hold memory in different ways.
var attackTransports = []wire.Transport{wire.GRPC, wire.WebH2, wire.Web, wire.WebSocket, wire.Tunnel}

// containers are sizes, with more calls than they take.
var containers = []struct {
	limit int64
	calls int
}{{64 * mib, 2000}, {96 * mib, 3000}, {128 * mib, 4000}, {256 * mib, 9000}, {512 * mib, 9000}}

// shortAttacks are the rows of make test-long, on two processors that the attacker, the
// backend and the race detector share.
func shortAttacks() []memoryAttack {
	const limit = 512 * mib
	return []memoryAttack{
		{kind: "stalled", transport: wire.GRPC, sources: 1, calls: attackCalls, memory: limit},
		{kind: "stalled", transport: wire.WebH2, tls: true, sources: 100, calls: attackCalls, memory: limit},
		{kind: "stalled", transport: wire.Web, sources: 1, calls: attackCalls, memory: limit},
		{kind: "stalled", transport: wire.WebSocket, tls: true, sources: 100, calls: attackCalls, memory: limit},
		{kind: "stalled", transport: wire.Tunnel, sources: 1, calls: attackCalls},
		{kind: "withheld", transport: wire.GRPC, sources: 1, calls: withheldCalls, memory: limit},
		{kind: "withheld", transport: wire.WebSocket, tls: true, sources: 100, calls: withheldCalls, memory: limit},
		{kind: "answered", transport: wire.GRPC, sources: 1, calls: answeredCalls, memory: limit},
		{kind: "refused", transport: wire.GRPC, sources: 1, calls: answeredCalls, memory: limit},
		{kind: "trickled", transport: wire.GRPC, sources: 1, calls: attackCalls},
		{kind: "trickled", transport: wire.WebH2, tls: true, sources: 100, calls: attackCalls},
		{kind: "trickled", transport: wire.Web, sources: 1, calls: attackCalls},
		{kind: "trickled", transport: wire.WebSocket, sources: 1, calls: attackCalls},
		{kind: "trickled", transport: wire.Tunnel, sources: 1, calls: attackCalls},
		{kind: "large", transport: wire.GRPC, tls: true, sources: 100, calls: attackCalls},
		{kind: "fed", transport: wire.WebSocket, sources: 1, calls: 2000, container: 64 * mib},
		{kind: "fed", transport: wire.Tunnel, tls: true, sources: 1, calls: 3000, container: 96 * mib},
		{kind: "fed", transport: wire.GRPC, sources: 1, calls: 4000, container: 128 * mib},
	}
}

// allAttacks are all rows, to their whole extent.
func allAttacks() []memoryAttack {
	var rows []memoryAttack
	for _, transport := range attackTransports {
		for _, overTLS := range []bool{false, true} {
			for _, sources := range []int{1, 100} {
				row := memoryAttack{transport: transport, tls: overTLS, sources: sources, calls: attackCalls}
				for _, kind := range []string{"stalled", "trickled", "large"} {
					row.kind = kind
					rows = append(rows, row)
				}
				row.memory = 512 * mib
				for _, kind := range []string{"stalled", "large"} {
					row.kind = kind
					rows = append(rows, row)
				}
				row.kind, row.calls = "withheld", withheldCalls
				rows = append(rows, row)
			}
			for _, kind := range []string{"fed", "stalled", "trickled", "large"} {
				for _, c := range containers {
					rows = append(rows, memoryAttack{kind: kind, transport: transport, tls: overTLS, sources: 1, calls: c.calls, container: c.limit})
				}
			}
		}
	}
	return rows
}

func (a memoryAttack) name() string {
	words := []string{a.kind, string(a.transport)}
	if a.tls {
		words = append(words, "tls")
	}
	words = append(words, fmt.Sprintf("from %d", a.sources))
	switch {
	case a.memory > 0:
		words = append(words, fmt.Sprintf("in %dMiB", a.memory/mib))
	case a.container > 0:
		words = append(words, fmt.Sprintf("in a container of %dMiB", a.container/mib))
	}
	return strings.NewReplacer(" ", "_", "/", "-").Replace(strings.Join(words, " "))
}

const (
	attackHead = `
| attack | calls | sent | RSS: without calls, idle, peak | grown | in sockets | CPU | calls from elsewhere | from the same address | streams from elsewhere | /readyz | ended by culvert | as the attacker saw it |
|---|---|---|---|---|---|---|---|---|---|---|---|---|`
	attackLine = "| %s | %d | %d KiB | %d, %d, %d MiB | %d MiB | %s | %.1f s in %.1f s | %v | %v | %v | %v | %d | %s |"
)

// attacksAtOnce is how many rows run beside each other. A row is an attack of 8 s, most of
// which are waits, and each has a culvert and a backend of its own.
const attacksAtOnce = 2

// However many calls hold as much as they can, culvert's memory stays within what
// the settings say, culvert lives, and others are served. It doesn't run beside
// other tests.
func TestMemoryAttacks(t *testing.T) {
	rows := shortAttacks()
	if *attackAll {
		rows = allAttacks()
	}
	ca := newIssuer(t, "ca")
	table := make([]string, len(rows))
	turns := make(chan struct{}, attacksAtOnce)
	t.Run("attack", func(t *testing.T) { // ends when all of them have
		for i, a := range rows {
			t.Run(a.name(), func(t *testing.T) {
				t.Parallel() // beside one another; other tests are kept out
				turns <- struct{}{}
				defer func() { <-turns }()
				table[i] = a.run(t, ca)
			})
		}
	})
	t.Log(attackHead + "\n" + strings.Join(table, "\n"))
}

// An attackResult is what came of a row. Sizes are bytes of culvert's RSS.
type attackResult struct {
	attackReport
	running                  int // calls, at the backend, when the attack began
	fresh, idle, peak, bound int64
	used, lasted             time.Duration
	others, same, talks      *fare  // honest calls and streams
	ready                    *fare  // /readyz
	evicted                  int    // calls that culvert has ended for lack of something
	killed                   int64  // processes that the kernel has ended, of a container
	sockets                  string // what the kernel held for them at the end of the attack, of a container
	gone                     bool   // culvert is
}

// run returns the row's line of the table.
func (a memoryAttack) run(t *testing.T, ca *issuer) string {
	var group *memoryGroup
	o := culvertOptions{}
	if a.container > 0 {
		group = newMemoryGroup(t, a.container)
		o.cgroup = group.dir
	}
	b := startBackend(t, backendOptions{})
	c, trust := a.startCulvert(t, b, ca, o)
	if err := honestCall(newID(t), wire.GRPC, honestAddress, c.address, trust, honestTime); err != nil {
		t.Fatal(err)
	}
	r := attackResult{fresh: c.rss(t)}
	var stops [4]func()
	r.talks, stops[0] = honestTalks(t, c.address, trust)
	r.ready, stops[1] = c.asksReadyz()

	options := attackerOptions{kind: a.kind, transport: a.transport, sources: a.sources, calls: a.calls}
	if a.tls {
		options.ca = ca
	}
	attacker, opened := startAttacker(t, c.address, options)
	if r.running = int(opened.Calls); a.kind != "answered" && a.kind != "refused" {
		r.running = b.opened(t, r.running)
	}
	used := c.used()
	r.idle, _ = c.look("VmRSS")
	r.bound = a.bound(r.idle)
	r.others, stops[2] = honestCalls(t, honestAddress, c.address, trust, honestTime)
	r.same, stops[3] = honestCalls(t, attackAddress, c.address, trust, sameTime)
	attacker.begin(t)
	began := time.Now()
	served := []*fare{r.talks, r.ready}
	if a.container == 0 {
		served = append(served, r.others)
	}
	r.peak = c.growth(2*r.bound, attackLasts(served))
	r.lasted = time.Since(began)
	r.sockets = "–"
	if group != nil {
		r.sockets = fmt.Sprintf("%d MiB", group.sockets(t)/mib)
	}
	inParallel(len(stops), len(stops), func(i int) { stops[i]() })
	r.gone = c.gone()
	r.used = c.used() - used
	r.evicted = c.evicted()
	r.attackReport = attacker.end(t)
	if group != nil {
		r.killed = group.killed(t)
	}
	a.judge(t, c, r)
	return fmt.Sprintf(attackLine, a.name(), r.running, r.Sent/kib, r.fresh/mib, r.idle/mib, r.peak/mib, (r.peak-r.idle)/mib,
		r.sockets, r.used.Seconds(), r.lasted.Seconds(), r.others, r.same, r.talks, r.ready, r.evicted, r.ends())
}

func (a memoryAttack) startCulvert(t *testing.T, b *backend, ca *issuer, o culvertOptions) (*culvert, *tls.Config) {
	t.Helper()
	if a.memory > 0 {
		o.config = fmt.Sprintf("limits: {memory: %dMiB}\n", a.memory/mib)
	}
	if !a.tls {
		return startCulvert(t, b.address, o), nil
	}
	certFile, keyFile := writePair(t, t.TempDir(), "tls", ca.issue("culvert"))
	o.args = []string{"--tls-cert", certFile, "--tls-key", keyFile}
	return startCulvert(t, b.address, o), ca.trusting()
}

// judge wants of every attack that culvert lives and says so, and that the streams
// of others go on. In a container that is all: what arrives may be more than its
// memory takes, and new calls are refused then. Elsewhere memory has its bound, and
// the calls of others are served. Those from the attacker's own address may not be.
func (a memoryAttack) judge(t *testing.T, c *culvert, r attackResult) {
	t.Helper()
	if r.gone || r.killed > 0 {
		t.Errorf("culvert %v after %v, with %d calls open; the kernel has ended %d processes", c.cmd.ProcessState, r.lasted.Round(time.Millisecond), r.running, r.killed)
		return
	}
	r.ready.wantAll(t, "/readyz")
	r.talks.wantAll(t, "streams from elsewhere")
	if a.container > 0 {
		return
	}
	r.others.wantAll(t, "calls from elsewhere")
	if r.peak > r.bound {
		t.Errorf("a peak of %d MiB, want up to %d", r.peak/mib, r.bound/mib)
	}
	if a.kind != "trickled" && a.kind != "refused" && r.evicted == 0 {
		t.Error("the log has no call that culvert ended with RESOURCE_EXHAUSTED: they keep what they hold")
	}
	if a.kind != "stalled" && a.kind != "withheld" && a.kind != "answered" {
		return
	}
	// What a call of gRPC is told needs no window. gRPC-Web's status is data.
	if told := r.told(); (a.transport == wire.GRPC || a.transport == wire.Tunnel) && told < r.evicted*9/10 {
		t.Errorf("culvert ended %d calls and told %d of them, but: %s", r.evicted, told, r.ends())
	}
}

// bound is what culvert may come to, in bytes: limits.memory if set; else what was there
// before and the budget, with half of the budget for garbage. Uploads may pass the budget by an
// eighth, and everything that lives then has half as much garbage.
func (a memoryAttack) bound(idle int64) int64 {
	switch {
	case a.memory > 0:
		return a.memory
	case a.kind == "large":
		return (idle + defaultBudget*9/8) * 3 / 2
	default:
		return idle + defaultBudget*3/2
	}
}

// attackLasts returns a function that says whether an attack that begins now has to go on: it
// lasts for attackDuration, and until all of the honest clients were served.
func attackLasts(of []*fare) func() bool {
	for _, f := range of {
		f.anew()
	}
	began := time.Now()
	return func() bool {
		served := !slices.ContainsFunc(of, func(f *fare) bool { return !f.serves() })
		return time.Since(began) < attackDuration || !served // a call that takes honestTime fails
	}
}

// growth returns the largest RSS while the attack lasts. It returns early if culvert is gone,
// or far over its bound.
func (c *culvert) growth(most int64, lasts func() bool) (peak int64) {
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for lasts() {
		select {
		case <-c.exited:
			return peak
		case <-pace.C:
		}
		now, err := c.look("VmRSS")
		if err != nil {
			continue // gone
		}
		if peak = max(peak, now); peak > most {
			return peak
		}
	}
	return peak
}
