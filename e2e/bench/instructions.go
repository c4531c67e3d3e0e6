package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A tally is a load of so many messages, one after another, whose instructions and
// allocations are counted. Other programs on the machine change times, but hardly these
// counts.
type tally struct {
	name     string
	client   func(*peer) client
	do       func(ctx context.Context, c client, n int) error
	messages int
	rounds   int // how often callgrind counts each program; streams vary more
}

var tallies = []tally{
	{"instructions: unary calls, native gRPC, 100 B", newGRPCClient(1), callInTurn, 2000, 3},
	{"instructions: unary calls, gRPC-Web, 100 B", newWebClient, callInTurn, 2000, 3},
	{"instructions: unary calls, a WebSocket each, 100 B", newWebSocketClient, callInTurn, 1000, 3},
	{"instructions: native gRPC ping-pong, 1 stream, 100 B", newGRPCClient(1), echoInTurn, 10_000, 9},
	{"instructions: WebSocket ping-pong, 1 stream, 100 B", newWebSocketClient, echoInTurn, 10_000, 9},
	{"instructions: native gRPC server stream, 1 KiB", newGRPCClient(1), takeStream, 30_000, 9},
	{"instructions: WebSocket server stream, 1 KiB", newWebSocketClient, takeStream, 30_000, 9},
}

// The programs that are counted. The older one has the flags of its time, so all of them
// get only flags that both have.
const (
	tallyOlder   = "older"
	tallyOff     = "without metrics"
	tallyMetrics = "with metrics"
)

var tallyPeers = []string{tallyOlder, tallyOff, tallyMetrics}

// callInTurn makes n calls.
func callInTurn(ctx context.Context, c client, n int) error {
	l := &load{client: c}
	message := make([]byte, 100)
	for range n {
		if err := l.call(ctx, 0, message); err != nil {
			return err
		}
	}
	return nil
}

// echoInTurn has n messages echoed in one call.
func echoInTurn(ctx context.Context, c client, n int) error {
	s, err := c.open(ctx, 0, methodEcho, nil)
	if err != nil {
		return err
	}
	defer s.close()
	message := make([]byte, 100)
	for range n {
		if err := s.send(message); err != nil {
			return err
		}
		if _, err := s.recv(); err != nil {
			return err
		}
	}
	if err := s.closeSend(); err != nil {
		return err
	}
	return atEnd(s)
}

// takeStream reads n messages of a call.
func takeStream(ctx context.Context, c client, n int) error { return take(ctx, c, 0, 1024, n, 0) }

// take reads n messages of a size in the call with a number, and pauses after each.
func take(ctx context.Context, c client, number, size, n int, rest time.Duration) error {
	s, err := c.open(ctx, number, methodSource, map[string]string{"x-size": strconv.Itoa(size)})
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(s.send(nil), s.closeSend()); err != nil {
		return err
	}
	for range n {
		if _, err := s.recv(); err != nil {
			return err
		}
		if rest == 0 {
			continue
		}
		if err := pause(ctx, rest); err != nil {
			return err
		}
	}
	return nil
}

// tallyBound is the most that a message may cost without metrics, by instructions and
// by allocations, with 1 for the older culvert.
const tallyBound = 1.03

// A count is what a message costs. spread is how far apart the rounds' instructions are,
// as a part of their median.
type count struct{ instructions, mallocs, spread float64 }

// run counts each program.
func (t tally) run(ctx context.Context, a *arena) (map[string]count, error) {
	counts := make(map[string]count)
	instructions := make(map[string][]float64)
	for range t.rounds {
		for _, name := range tallyPeers {
			n, err := t.instructions(ctx, a, name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			instructions[name] = append(instructions[name], n)
		}
	}
	for _, name := range tallyPeers {
		mallocs, err := t.mallocs(ctx, a, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		middle := median(instructions[name])
		counts[name] = count{middle, mallocs, (slices.Max(instructions[name]) - slices.Min(instructions[name])) / middle}
	}
	return counts, nil
}

// ofAnyTime starts a culvert by a command, which may be valgrind and its arguments, with
// only the flags that the older one has, too. One that is built with counters tells them at
// the address in env.
func (a *arena) ofAnyTime(ctx context.Context, name string, env []string, command ...string) (*peer, error) {
	p := &peer{name: name}
	if name == tallyMetrics {
		p.health = freeAddress()
	}
	for _, variable := range env {
		if address, ok := strings.CutPrefix(variable, countersVariable); ok {
			p.counters = address
		}
	}
	return a.serve(ctx, p, env, command)
}

// instructions runs the load against a culvert in callgrind, and returns the
// instructions a message, without those of the kernel. env is added to its environment.
func (t tally) instructions(ctx context.Context, a *arena, name string, env ...string) (float64, error) {
	bin := a.bins.culvert
	if name == tallyOlder {
		bin = a.bins.older
	}
	out := filepath.Join(a.dir, "callgrind.out")
	// With one thread and without preemption, the count depends least on time.
	env = append(env, "GOMAXPROCS=1", "GODEBUG=asyncpreemptoff=1")
	p, err := a.ofAnyTime(ctx, name, env, "valgrind", "--tool=callgrind", "--separate-threads=yes", "--callgrind-out-file="+out, bin)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	if err := t.load(ctx, p, func() error { return p.callgrind(ctx, "--zero") }); err != nil {
		return 0, err
	}
	dumps := out + ".1-*"
	if err := removeAll(dumps); err != nil { // of the last program
		return 0, err
	}
	if err := p.callgrind(ctx, "--dump"); err != nil {
		return 0, err
	}
	total, err := sumOfThreads(dumps)
	return float64(total) / float64(t.messages), err
}

// removeAll removes the files of a pattern.
func removeAll(pattern string) error {
	files, err := filepath.Glob(pattern)
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// sumOfThreads returns callgrind's sum of the threads that the files are of, without the
// second one, the first that Go starts: its sysmon runs by the clock.
func sumOfThreads(pattern string) (sum int64, err error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "-02") {
			continue
		}
		n, err := number(file, "totals:")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	if sum == 0 {
		return 0, fmt.Errorf("callgrind left no sums in %s", pattern)
	}
	return sum, nil
}

// load warms the peer up with half of the load, calls begin, and has it meet the load.
func (t tally) load(ctx context.Context, p *peer, begin func() error) error {
	c := t.client(p)
	defer c.close()
	if err := t.do(ctx, c, t.messages/2); err != nil {
		return err
	}
	if err := begin(); err != nil {
		return err
	}
	return t.do(ctx, c, t.messages)
}

// callgrind has callgrind do something, and waits until it is done.
func (p *peer) callgrind(ctx context.Context, what string) error {
	said, err := exec.CommandContext(ctx, "callgrind_control", what, strconv.Itoa(p.proc.cmd.Process.Pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("callgrind_control %s: %w: %s", what, err, said)
	}
	return nil
}

// mallocs runs the load against a culvert that counts its allocations, and returns
// those of a message.
func (t tally) mallocs(ctx context.Context, a *arena, name string) (float64, error) {
	bin := a.bins.culvertCounting
	if name == tallyOlder {
		bin = a.bins.olderCounting
	}
	p, err := a.ofAnyTime(ctx, name, []string{"GOMAXPROCS=1", countersVariable + freeAddress()}, bin)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	var before counters
	if err := t.load(ctx, p, func() (err error) { before, err = p.count(); return err }); err != nil {
		return 0, err
	}
	after, err := p.count()
	return float64(after.Mallocs-before.Mallocs) / float64(t.messages), err
}
