package pool

import (
	"container/list"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A config is what the pool needs of a Backend.
type config struct {
	balance        policy
	health         report.HealthCheck
	maxConnections int           // to each address
	connectTimeout time.Duration // of an attempt to connect, and of a call that waits for a connection
	outlast        bool          // a call waits although an attempt fails
	pingTimeout    time.Duration // for the answer to a ping
	maxWaiting     int           // calls that wait for a connection or a place
	queueTimeout   time.Duration // of a call that waits for a place
	waits          func()        // is told of a call that waits; may be nil
}

func configOf(b *report.Backend) (config, error) {
	balance, err := findPolicy(b.Balance)
	if err != nil {
		return config{}, err
	}
	return config{
		balance:        balance,
		health:         b.HealthCheck,
		maxConnections: rules.OrDefault(b.MaxConnections, rules.MaxConnections, math.MaxInt32),
		connectTimeout: rules.OrDefault(b.ConnectTimeout, rules.ConnectTimeout, rules.ConnectTimeout),
		outlast:        b.ConnectTimeout > 0,
		pingTimeout:    rules.OrDefault(b.PingTimeout, rules.PingTimeout, rules.PingTimeout),
		maxWaiting:     rules.OrDefault(b.MaxWaiting, rules.MaxWaiting, math.MaxInt32),
		queueTimeout:   rules.OrDefault(b.QueueTimeout, rules.QueueTimeout, 0),
		waits:          b.Waiting,
	}, nil
}

// A Pool has the connections to a backend. New makes one. Its methods may be called from any
// goroutine.
//
// Its policy chooses the address of a call. It has one connection to each address, and
// opens further ones when a call finds no place on any. A place is room for one call
// under the backend's MAX_CONCURRENT_STREAMS. A call without a place waits in one
// queue for all addresses. The pool closes connections that are no longer needed,
// once their calls have ended.
type Pool struct {
	client  *grpc.ClientConn    // opens streams
	streams []grpc.CallOption   // of those that aren't calls
	cc      balancer.ClientConn // makes connections
	config  config
	panics  *report.Panics
	log     *slog.Logger

	openings openings

	window      int64        // of a connection
	headerBytes int          // of a header block that grpc-go takes
	leftOut     atomic.Int64 // when noteLeftOut last logged, in nanoseconds of Unix time

	timers sync.WaitGroup // until they have run or are stopped
	checks sync.WaitGroup // health checks that run

	keepalive atomic.Int64 // of new connections, in nanoseconds; 0: none
	lostPings atomic.Int64 // connections that were closed because the backend answered no ping
	size      atomic.Int32 // the number of addresses
	readied   atomic.Int64 // connections so far that became ready

	mu        sync.Mutex
	addresses []*address
	gone      []*address        // no longer among them, with calls
	ready     []*address        // those that calls may use: they have a connection that accepts calls
	turn      int               // the place of the address that was called last
	queue     list.List         // of *waiter, oldest first
	waiting   int               // calls that wait for a connection or a place to begin
	failure   error             // why there is no connection, when attempts have failed
	latest    error             // the last failure since there was a connection
	absent    atomic.Int64      // since when no address takes calls, in nanoseconds of Unix time; 0: one does; not guarded
	watcher   connectionWatcher // nil: the target's resolver doesn't need it
	trimTimer *time.Timer       // nil: no address has more than one connection
	closed    bool
	unused    []balancer.SubConn // to shut down once mu is free
	notes     []func()           // they log, once mu is free
	warned    bool               // that there is no health check
}

// A connectionWatcher learns whether there is any connection to the backend. It must
// not wait.
type connectionWatcher interface{ connected(yes bool) }

// watcherKey is the resolver.State attribute for the connectionWatcher.
type watcherKey struct{}

// pingSeldomer raises backend.keepalive for new connections: the backend has ended one for its
// PINGs. gRFC A8.
func (p *Pool) pingSeldomer(every int64) {
	for {
		now := p.keepalive.Load()
		if every <= now || p.keepalive.CompareAndSwap(now, every) {
			return
		}
	}
}

// noteLeftOut logs that a value of an answer is left out, once a minute.
func (p *Pool) noteLeftOut(name string) {
	now, before := time.Now().UnixNano(), p.leftOut.Load()
	if now-before < int64(time.Minute) || !p.leftOut.CompareAndSwap(before, now) {
		return
	}
	p.log.Warn("an answer of the backend has metadata that can't be read: culvert leaves the value out, and keeps the status",
		slog.String("name", name[:min(len(name), 64)]), slog.String("hint", "send base64 under names that end in -bin, and details whose code is that of grpc-status"))
}

// unlock unlocks mu, shuts down unused connections and logs. The shutdown may wait for
// the goroutine that reads from them, which may wait for mu. The log may wait, too.
func (p *Pool) unlock() {
	unused, notes := p.unused, p.notes
	p.unused, p.notes = nil, nil
	p.mu.Unlock()
	defer func() {
		for _, sub := range unused {
			sub.Shutdown() // the calls on it continue
		}
	}()
	for _, log := range notes {
		log()
	}
}

func (p *Pool) find(in []*address, key string) *address {
	i := slices.IndexFunc(in, func(a *address) bool { return a.key == key })
	if i < 0 {
		return nil
	}
	return in[i]
}

// endpointKey returns a key that identifies an endpoint.
func endpointKey(e resolver.Endpoint) string {
	var key strings.Builder
	for _, a := range e.Addresses {
		key.WriteString(a.Addr + " " + a.ServerName + "\n")
	}
	return key.String()
}

// end is Close up to its waits.
func (p *Pool) end() {
	p.mu.Lock()
	defer p.unlock()
	p.closed = true
	p.stop(p.trimTimer)
	for _, a := range p.addresses {
		p.stop(a.avoided)
		for _, s := range a.slots {
			s.close()
		}
	}
	p.fail(errors.New("the upstream is closed"))
}

// after calls f later with mu held, unless the timer is stopped first. mu is held.
func (p *Pool) after(d time.Duration, f func()) *time.Timer {
	p.timers.Add(1)
	return time.AfterFunc(d, func() {
		defer p.timers.Done()
		defer p.panics.Catch("a timer of the balancer", p.broke)
		p.mu.Lock()
		defer p.unlock()
		f()
	})
}

// stop stops a timer of after. It may be nil. mu is held.
func (p *Pool) stop(timer *time.Timer) {
	if timer != nil && timer.Stop() {
		p.timers.Done()
	}
}

// unresolved notes why no address is known.
func (p *Pool) unresolved(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latest = why
}

// absentForLong is a time in the past, for Pool.absent.
const absentForLong = 1

// Serves reports whether new calls don't fail, as far as the pool knows. It takes no lock.
func (p *Pool) Serves() bool {
	since := p.absent.Load()
	return since == 0 || time.Since(time.Unix(0, since)) < connectGrace
}

// publish reports the state of the connections to grpc-go, so that calls that wait
// for a change pick again, and hands out the free places. mu is held.
func (p *Pool) publish() {
	if p.closed {
		return
	}
	connected := len(p.ready) > 0
	p.ready = p.choose(nil)
	if connected != (len(p.ready) > 0) {
		p.suspendPatience()
	}
	var failed error
	connecting := false
	for _, a := range p.addresses {
		a.noteHealth()
		for _, s := range a.slots {
			if s.failure == nil {
				connecting = true
			} else {
				failed = s.failure
			}
		}
	}
	state := connectivity.TransientFailure
	switch {
	case len(p.ready) > 0:
		state, p.failure = connectivity.Ready, nil
	case connecting:
		state, p.failure = connectivity.Connecting, nil
	case failed != nil:
		p.failure = failed
	case p.failure == nil:
		p.failure = errors.New("the backend's name has no addresses")
	}
	if state != connectivity.Connecting {
		p.latest = p.failure
	}
	switch state {
	case connectivity.Ready:
		p.absent.Store(0)
	case connectivity.TransientFailure:
		p.absent.Store(absentForLong)
	default:
		p.absent.CompareAndSwap(0, time.Now().UnixNano())
	}
	if p.watcher != nil {
		p.watcher.connected(state == connectivity.Ready)
	}
	p.cc.UpdateState(balancer.State{ConnectivityState: state, Picker: balancing{p}})
	if state == connectivity.TransientFailure {
		p.fail(p.failure)
	}
	p.seat()
	p.growOrDismiss()
}
