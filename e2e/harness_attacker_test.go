package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// The addresses of an attack are attackAddress and those that follow it. Honest
// clients come from there, too, and from an address of their own.
const (
	attackAddress = "127.0.1.1"
	honestAddress = "127.0.9.9"
)

// An attacker is the program attacker, running.
type attacker struct{ *process }

type attackerOptions struct {
	kind      string
	transport wire.Transport
	ca        *issuer // nil: plaintext
	sources   int
	calls     int
}

// An attackReport is what an attacker says of itself.
type attackReport struct {
	Open        bool
	Calls, Sent int64
	Ends        map[string]int // of calls, by how they ended for the attacker
}

// startAttacker starts an attacker and returns once its calls are open. The
// processors are culvert's first: an attacker has its own, elsewhere.
func startAttacker(t testing.TB, address string, o attackerOptions) (*attacker, attackReport) {
	t.Helper()
	argv := []string{
		"nice", "-n", "5", attackerProgram, "-address", address, "-kind", o.kind, "-transport", string(o.transport),
		"-from", attackAddress, "-sources", strconv.Itoa(o.sources), "-calls", strconv.Itoa(o.calls),
	}
	if o.ca != nil {
		argv = append(argv, "-ca", o.ca.file)
	}
	a := &attacker{startProcess(t, "attacker", "", argv...)}
	return a, a.report(t, true)
}

// begin lets the calls do what they are for.
func (a *attacker) begin(t testing.TB) { t.Helper(); a.signal(t, syscall.SIGUSR1) }

// end resets the attacker's connections and returns what came of the attack.
func (a *attacker) end(t testing.TB) attackReport {
	t.Helper()
	a.signal(t, syscall.SIGTERM)
	r := a.report(t, false)
	a.wait(t, time.Minute) // the kernel resets its connections
	return r
}

func (a *attacker) report(t testing.TB, open bool) attackReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var r attackReport
	if _, _, err := a.output.find(ctx, 0, func(line string) bool {
		r = attackReport{}
		return json.Unmarshal([]byte(line), &r) == nil && r.Open == open
	}); err != nil {
		t.Fatalf("attacker: %v, its last lines:\n%s", err, a.output.tail(5))
	}
	return r
}

// told returns how many calls the attacker saw end with RESOURCE_EXHAUSTED from
// culvert.
func (r attackReport) told() int {
	n := 0
	for how, calls := range r.Ends {
		if reason, ok := strings.CutPrefix(how, codes.ResourceExhausted.String()+" "); ok && reason != "" {
			n += calls
		}
	}
	return n
}

// ends lists how calls ended, the most first.
func (r attackReport) ends() string {
	kinds := slices.SortedFunc(maps.Keys(r.Ends), func(a, b string) int { return r.Ends[b] - r.Ends[a] })
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", r.Ends[kind], kind)
	}
	return strings.Join(kinds, ", ")
}

// A fare is how honest calls fared.
type fare struct {
	mu      sync.Mutex
	calls   int
	failed  int
	first   error // of those that failed
	slowest time.Duration
	served  []int // by client: calls that didn't fail since anew was called
}

func (f *fare) note(client int, took time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	f.slowest = max(f.slowest, took)
	if err == nil {
		f.served[client]++
		return
	}
	f.failed++
	if f.first == nil {
		f.first = err
	}
}

// anew forgets which clients were served.
func (f *fare) anew() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.served)
}

// serves reports whether each client was served three times since anew, or one of their calls has
// failed. Once wouldn't do: that call may have begun before.
func (f *fare) serves() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed > 0 || slices.Min(f.served) >= 3
}

func (f *fare) String() string {
	return fmt.Sprintf("%d of %d in %d ms", f.calls-f.failed, f.calls, f.slowest.Milliseconds())
}

// wantAll wants that none failed.
func (f *fare) wantAll(t testing.TB, what string) {
	t.Helper()
	if f.failed > 0 {
		t.Errorf("%s: %d of %d failed, the first with %v", what, f.failed, f.calls, f.first)
	}
}

// honestTime is how long an honest call may take. That says nothing of culvert's speed, since the
// attack may have all of the machine: an attack lasts until each honest client was served.
const honestTime = 30 * time.Second

// honestTransports are those of the honest clients beside an attack.
var honestTransports = []wire.Transport{wire.GRPC, wire.Web, wire.WebSocket}

// honestCalls makes calls of 4 KiB each way from an address, over connections of
// their own, until stop is called.
func honestCalls(t testing.TB, from, address string, config *tls.Config, within time.Duration) (f *fare, stop func()) {
	f = &fare{served: make([]int, len(honestTransports))}
	stopped := make(chan struct{})
	var clients sync.WaitGroup
	for i, transport := range honestTransports {
		clients.Go(func() {
			pace := time.NewTicker(200 * time.Millisecond)
			defer pace.Stop()
			for {
				began := time.Now()
				err := honestCall(newID(t), transport, from, address, config, within)
				if err != nil {
					err = fmt.Errorf("%s: %w", transport, err)
				}
				f.note(i, time.Since(began), err)
				select {
				case <-stopped:
					return
				case <-pace.C:
				}
			}
		})
	}
	return f, sync.OnceFunc(func() {
		close(stopped)
		clients.Wait()
	})
}

func honestCall(id string, transport wire.Transport, from, address string, config *tls.Config, within time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	conn, err := wire.DialFrom(ctx, transport, from, address, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(within))
	c, err := conn.Post(ctx, wire.Unary, wire.Metadata(id, probe.Script{ReplyBytes: 4 * kib}), wire.Request(0, 4*kib))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			conn.Reset() // or Close waits for what culvert doesn't answer
		}
		c.Close()
	}()
	n, err := wire.Drain(c, 0)
	switch {
	case err != nil:
		return err
	case c.Status().Code != codes.OK || n != 1:
		return fmt.Errorf("%d replies, %v", n, c.Status())
	}
	return nil
}

// asksReadyz asks /readyz on connections of its own until stop is called.
func (c *culvert) asksReadyz() (f *fare, stop func()) {
	f = &fare{served: make([]int, 1)}
	stopped := make(chan struct{})
	client := &http.Client{Timeout: honestTime, Transport: &http.Transport{DisableKeepAlives: true}}
	var asking sync.WaitGroup
	asking.Go(func() {
		pace := time.NewTicker(200 * time.Millisecond)
		defer pace.Stop()
		for {
			began := time.Now()
			resp, err := client.Get("http://" + c.health + "/readyz")
			if err == nil {
				_ = resp.Body.Close() // the status is all
				if resp.StatusCode != http.StatusOK {
					err = errors.New(resp.Status)
				}
			}
			f.note(0, time.Since(began), err)
			select {
			case <-stopped:
				return
			case <-pace.C:
			}
		}
	})
	return f, sync.OnceFunc(func() {
		close(stopped)
		asking.Wait()
	})
}

// honestTalks has a stream for each transport from honestAddress, on which a
// message of 1 KiB goes and comes back twice a second, until stop is called.
func honestTalks(t testing.TB, address string, config *tls.Config) (f *fare, stop func()) {
	transports := [...]wire.Transport{wire.GRPC, wire.WebSocket, wire.Tunnel}
	f = &fare{served: make([]int, len(transports))}
	stopped := make(chan struct{})
	var clients sync.WaitGroup
	for client, transport := range transports {
		ctx, cancel := context.WithTimeout(context.Background(), honestTime)
		conn, err := wire.DialFrom(ctx, transport, honestAddress, address, config)
		cancel()
		if err != nil {
			t.Fatalf("%s: a stream before the attack: %v", transport, err)
		}
		t.Cleanup(conn.Close)
		talk := open(t, conn, wire.Bidi, probe.Script{Echo: true})
		clients.Go(func() {
			pace := time.NewTicker(500 * time.Millisecond)
			defer pace.Stop()
			for i := uint64(0); ; i++ {
				began := time.Now()
				conn.SetDeadline(began.Add(honestTime))
				err := talk.Send(wire.Request(i, kib))
				if _, recv := wire.RecvReply(talk, i); recv != nil {
					err = errors.Join(err, fmt.Errorf("%s: message %d: %w (%v)", transport, i, recv, talk.Status()))
				}
				f.note(client, time.Since(began), err)
				if err != nil {
					conn.Reset() // or its Close waits for what culvert doesn't answer
					return
				}
				select {
				case <-stopped:
					return
				case <-pace.C:
				}
			}
		})
	}
	return f, sync.OnceFunc(func() {
		close(stopped)
		clients.Wait()
	})
}

// opened waits until the backend has n calls, or gets no more.
func (b *backend) opened(t testing.TB, n int) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	last, since := -1, time.Now()
	for {
		running, err := b.control.Running(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if running != last {
			last, since = running, time.Now()
		}
		if last >= n || time.Since(since) > time.Second {
			return last
		}
		<-look.C
	}
}

// evicted returns how many calls culvert has ended with RESOURCE_EXHAUSTED, by its
// log: a line for each call.
func (c *culvert) evicted() int {
	n := 0
	for _, text := range c.output.all() {
		var line struct{ Msg, Code, Origin string }
		if strings.Contains(text, `"RESOURCE_EXHAUSTED"`) && json.Unmarshal([]byte(text), &line) == nil &&
			line.Msg == "call" && line.Origin == "culvert" {
			n++
		}
	}
	return n
}

// gone reports whether the process has ended.
func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// used is the processor time that was used so far, or until the end.
func (p *process) used() time.Duration {
	used, err := p.clock()
	if err != nil {
		<-p.exited
		used = p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	}
	return used
}
