package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/client/internal/network"
)

// After an attempt to find a way that has failed, the next one waits as gRPC's connection
// backoff does. https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md
const (
	firstPause = time.Second
	pauseTimes = 1.6
	maxPause   = 2 * time.Minute
	pauseBand  = 0.2 // of the pause, either way

	// callPause is the longest pause while a call waits, from the end of the attempt before.
	callPause = 5 * time.Second

	// callPatience is how long a call counts as waiting.
	callPatience = 10 * time.Second
)

// A pace says when the next attempt to find a way may begin. It has no clock: its owner passes
// the time.
//
// While a proxy refuses tunnels, there are attempts only for calls. While it refuses
// credentials, no call shortens the pauses: a directory locks the accounts of those who try a
// wrong password often.
type pace struct {
	running int  // attempts
	behind  bool // one of them runs behind a failed one: no other begins beside it
	failure
}

// A failure is what is known of attempts since one has succeeded.
type failure struct {
	failures int
	ended    time.Time // of the last attempt
	pause    time.Duration
	err      error // of the last attempt
	refused  bool  // by the proxy
	login    bool  // the proxy has refused credentials
	at       string
}

// An attempt is one that runs.
type attempt struct {
	began  time.Time
	alone  bool // no other ran when it began
	behind bool // a failed one
}

// begin reports whether an attempt may begin. called is when the last call came, and at names
// the network: in another one, nothing that has failed counts. The caller calls end or giveUp.
func (p *pace) begin(now, called time.Time, at string) (attempt, bool) {
	if p.failures > 0 && !p.behind && p.at != at {
		p.failure = failure{}
	}
	if p.failures > 0 {
		waits := now.Sub(called) < callPatience
		pause := p.pause
		if waits && !p.login {
			pause = min(pause, callPause)
		}
		if p.behind || p.refused && !waits || now.Sub(p.ended) < pause {
			return attempt{}, false
		}
		p.behind = true
	}
	p.running++
	return attempt{began: now, alone: p.running == 1, behind: p.failures > 0}, true
}

// giveUp takes the end of an attempt that doesn't count.
func (p *pace) giveUp(a attempt) {
	p.running--
	if a.behind {
		p.behind = false
	}
}

// end takes the result of an attempt. Attempts that have run side by side count once. random is
// in [0, 1).
func (p *pace) end(a attempt, now time.Time, err error, at string, random float64) {
	p.giveUp(a)
	if err == nil {
		p.failure = failure{}
		return
	}
	before := p.failures
	if before > 0 && a.began.Before(p.ended) {
		before--
	}
	pause := float64(firstPause)
	for range before {
		pause = min(pause*pauseTimes, float64(maxPause))
	}
	e, _ := errors.AsType[*network.Error](err)
	p.failure = failure{
		failures: before + 1, ended: now, pause: time.Duration(pause * (1 + pauseBand*(2*random-1))), err: err, at: at,
		refused: e != nil && e.Refused(), login: e != nil && e.LoggedIn,
	}
}

// Want notes that a call waits for a connection: it shortens the pauses between attempts, and ends
// the rest of DialWanted.
func (d *Dialer) Want() {
	d.called.Store(time.Now().UnixNano())
	d.wants.Add(1)
	d.wake()
}

// wake has a caller of DialWanted look whether a call has come.
func (d *Dialer) wake() {
	select {
	case d.wanted <- struct{}{}:
	default:
	}
}

// errUnwanted is the error of DialWanted when no call came.
var errUnwanted = errors.New("the edge has ended a connection that no call has used, and no call has come since")

// DialWanted is Dial for a pool that replaces a connection as soon as it ends, and calls Want for
// each call that waits for one. If the edge has said goodbye (GOAWAY) to the last connection before
// it has answered a call there, DialWanted waits for a call first: edges end connections that
// nobody uses, and would end the next one, too.
func (d *Dialer) DialWanted(ctx context.Context) (net.Conn, error) {
	for d.resting() {
		select {
		case <-d.wanted: // by a call of long ago, perhaps
		case <-ctx.Done():
			return nil, errUnwanted
		case <-d.ctx.Done():
			return nil, errClosed
		}
	}
	d.wake() // another caller that rests
	return d.Dial(ctx)
}

func (d *Dialer) resting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wants.Load() < d.rests
}

// mayTry returns the error of the last attempt if the next one may not begin yet. Otherwise the
// caller calls tried.
func (d *Dialer) mayTry() (attempt, error) {
	d.mu.Lock()
	failed := d.pace.failures > 0
	d.mu.Unlock()
	at := ""
	if failed {
		at = localAddresses()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !failed {
		at = d.pace.at // another attempt may have failed since
	}
	a, ok := d.pace.begin(time.Now(), time.Unix(0, d.called.Load()), at)
	if !ok {
		return attempt{}, d.pace.err
	}
	if a.alone && (a.behind || len(d.conns) == 0) {
		d.net.Turns.Begin() // beside another attempt it would have the proxy asked again that has refused that
	}
	return a, nil
}

// tried notes how an attempt has ended. One that its caller has given up doesn't count.
func (d *Dialer) tried(a attempt, err error, givenUp bool) {
	at := ""
	if err != nil {
		at = localAddresses()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.dropWeb()
	if givenUp {
		d.pace.giveUp(a)
		return
	}
	d.pace.end(a, time.Now(), err, at, rand.Float64()) //nolint:gosec // it spreads load
}

// localAddresses names the networks that this machine is in now.
func localAddresses() string {
	all, _ := net.InterfaceAddrs() // none tells nothing
	var names []string
	for _, a := range all {
		if ip, _, err := net.ParseCIDR(a.String()); err == nil && ip.IsGlobalUnicast() {
			names = append(names, a.String())
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
