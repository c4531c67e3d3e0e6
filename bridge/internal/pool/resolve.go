package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// Bounds of the lookups of one name.
const (
	lookupPause   = time.Second      // minimum, between two lookups, while there is no connection
	lookupRetry   = 5 * time.Second  // maximum, after a failed lookup, while there is no connection
	lookupTimeout = 10 * time.Second // of one
)

// nameBuilder is the grpc resolver.Builder for names in DNS. It replaces
// grpc-go's own, which resolves a name only after a connection is lost, and at
// most every 30 s.
type nameBuilder struct {
	interval time.Duration // 0: only while there is no connection
	panics   *report.Panics
	failed   func(why error) // told why no address is known: grpc-go has no balancer before it has one
}

// Scheme returns the scheme of targets such as "dns:///host:port". Targets without a
// scheme have it, too.
func (nameBuilder) Scheme() string { return "dns" }

// Build begins to resolve the target. The target's authority is the name server to
// ask; without one it is the system's.
func (b nameBuilder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	host, port, err := splitTarget(target.Endpoint(), "443")
	if err != nil {
		return nil, err
	}
	r := &nameResolver{cc: cc, host: host, port: port, interval: b.interval, panics: b.panics, told: b.failed, lookup: newLookup("", b.panics), changed: make(chan struct{}, 1)}
	if _, err := netip.ParseAddr(host); err == nil {
		r.cancel = func() {}
		_ = r.update([]string{host}) // the log has it
		return r, nil
	}
	if target.URL.Host != "" {
		server, port, err := splitTarget(target.URL.Host, "53")
		if err != nil {
			return nil, err
		}
		r.lookup = newLookup(net.JoinHostPort(server, port), b.panics)
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background()) // ended by Close
	r.watching.Go(func() { r.watch(ctx) })
	return r, nil
}

// newLookup returns the lookup function of a name server, or of the system's if
// server is empty. The lookup ends with its context, unlike Go's own, which waits for
// the answer.
func newLookup(server string, panics *report.Panics) func(ctx context.Context, host string) ([]string, error) {
	own := &net.Resolver{PreferGo: server != "" || net.DefaultResolver.PreferGo, StrictErrors: net.DefaultResolver.StrictErrors}
	dial := net.DefaultResolver.Dial
	if dial == nil || server != "" {
		dial = new(net.Dialer).DialContext
	}
	own.Dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		defer panics.Catch("the resolver's dialer", func(f *report.Fault) { err = f })
		conn, err = dial(ctx, network, cmp.Or(server, address))
		if err == nil {
			conn = socket.Safe(conn, func(v any) error { return panics.Note("the resolver's connection", v) })
			context.AfterFunc(ctx, func() { _ = conn.Close() }) // it is over either way
		}
		return conn, err
	}
	return own.LookupHost
}

// splitTarget splits "host:port", "host", "[v6]:port", "[v6]" or "v6". An empty host
// means this machine.
func splitTarget(target, defaultPort string) (host, port string, err error) {
	if target == "" {
		return "", "", errors.New("no address")
	}
	if _, err := netip.ParseAddr(target); err == nil {
		return target, defaultPort, nil
	}
	host, port, err = net.SplitHostPort(target)
	if err != nil {
		host, port, err = net.SplitHostPort(target + ":" + defaultPort)
	}
	switch {
	case err != nil:
		return "", "", fmt.Errorf("address %q: %w", target, err)
	case port == "":
		return "", "", fmt.Errorf("address %q ends with a colon: add a port", target)
	case host == "":
		host = "localhost"
	}
	return host, port, nil
}

// A nameResolver resolves one name repeatedly: at an interval while there is a
// connection to the backend, else every second. A failed lookup changes nothing: the
// last addresses stay.
type nameResolver struct {
	cc         resolver.ClientConn
	host, port string
	interval   time.Duration
	panics     *report.Panics
	told       func(why error) // of failed; may be nil
	lookup     func(ctx context.Context, host string) ([]string, error)
	cancel     context.CancelFunc
	watching   sync.WaitGroup

	changed chan struct{} // one element: connectedNow has changed

	mu           sync.Mutex
	connectedNow bool
}

// connected notes, for the pool, whether there is any connection.
func (r *nameResolver) connected(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connectedNow == yes {
		return
	}
	r.connectedNow = yes
	select {
	case r.changed <- struct{}{}:
	default: // watch hasn't looked yet
	}
}

// ResolveNow does nothing: grpc-go calls it for each connection that is lost or
// fails, and connected reports when that matters.
func (r *nameResolver) ResolveNow(resolver.ResolveNowOptions) {}

// Close ends the lookups.
func (r *nameResolver) Close() {
	r.cancel()
	r.watching.Wait()
}

// watch is the resolver's goroutine.
func (r *nameResolver) watch(ctx context.Context) {
	var known []string
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		if r.look(ctx, &known) != nil {
			failures++
		} else {
			failures = 0
		}
		r.rest(ctx, began, failures)
	}
}

// look resolves the name, and tells grpc-go of a change, which tells the balancer.
func (r *nameResolver) look(ctx context.Context, known *[]string) (err error) {
	defer r.panics.Catch("the resolver", func(f *report.Fault) {
		err = f
		r.failed(f, *known)
	})
	found, err := r.resolve(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.failed(err, *known)
	case !slices.Equal(found, *known):
		if err = r.update(found); !report.IsPanic(err) {
			*known, err = found, nil
		}
	}
	return err
}

// failed tells grpc-go why no address is known.
func (r *nameResolver) failed(why error, known []string) {
	if known != nil {
		return
	}
	if r.told != nil {
		r.told(why)
	}
	r.cc.ReportError(why)
}

// rest returns when the next lookup is due.
func (r *nameResolver) rest(ctx context.Context, began time.Time, failures int) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if pause, again := r.pause(failures); again {
			timer.Reset(time.Until(began.Add(pause)))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-r.changed:
		}
	}
}

// pause returns the time from one lookup to the next, after this many consecutive
// failures. again is false if there is no next one.
func (r *nameResolver) pause(failures int) (pause time.Duration, again bool) {
	pause = lookupPause
	if failures > 0 {
		pause = min(lookupPause<<min(failures-1, 5), lookupRetry)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connectedNow {
		pause = r.interval
	}
	return pause + rand.N(pause/10+1), pause > 0 //nolint:gosec // it spreads lookups
}

// resolve returns the name's addresses, sorted by compareHosts.
func (r *nameResolver) resolve(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := r.lookup(ctx, r.host)
	dns, ok := errors.AsType[*net.DNSError](err)
	switch {
	case ok && dns.IsNotFound, err == nil && len(found) == 0:
		return nil, fmt.Errorf("%s: no such host", r.host)
	case err != nil:
		return nil, err
	}
	slices.SortFunc(found, compareHosts)
	return slices.Compact(found), nil
}

// compareHosts orders addresses by number, IPv4 first: the order of pick_first.
func compareHosts(a, b string) int {
	x, _ := netip.ParseAddr(a) // the lookup returns nothing else
	y, _ := netip.ParseAddr(b)
	return cmp.Or(x.Compare(y), cmp.Compare(a, b))
}

// update gives grpc-go the addresses, and the pool its connectionWatcher. It returns the
// pool's error: a panic, or that the list has no addresses.
func (r *nameResolver) update(hosts []string) error {
	s := resolver.State{Attributes: attributes.New(watcherKey{}, r)}
	for _, host := range hosts {
		a := resolver.Address{Addr: net.JoinHostPort(host, r.port)}
		s.Addresses = append(s.Addresses, a)
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
	}
	return r.cc.UpdateState(s)
}
