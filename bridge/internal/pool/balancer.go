package pool

import (
	"slices"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// policyName is the pool's name in grpc-go's registry of balancing policies.
const policyName = "culvert_pool"

func init() { balancer.Register(builder{}) }

// serviceConfig is the service config that selects the pool.
const serviceConfig = `{"loadBalancingConfig": [{"` + policyName + `": {}}]}`

// builder is the pool's entry in grpc-go's registry.
type builder struct{}

// Name returns the policy's name in a service config.
func (builder) Name() string { return policyName }

// Build returns the pool that New has put into the credentials: grpc-go offers
// no other way from a ClientConn to its balancer.
func (builder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	creds, ok := o.DialCreds.(wireCredentials)
	if !ok { // another ClientConn of the process has a service config that names the pool
		return balancer.Get(pickfirst.Name).Build(cc, o)
	}
	creds.pool.cc = cc
	return balancing{creds.pool}
}

// balancing is the pool as grpc-go has it: its balancer, and its picker. grpc-go calls the
// methods of balancer.Balancer and the listeners of connections one after the other, and Pick
// from each call's goroutine.
type balancing struct{ pool *Pool }

// UpdateClientConnState sets the addresses that the target now resolves to.
func (b balancing) UpdateClientConnState(state balancer.ClientConnState) (err error) {
	p := b.pool
	defer p.panics.Catch("the balancer", func(f *report.Fault) {
		err = f
		p.broke(f)
	})
	p.mu.Lock()
	defer p.unlock()
	p.watcher, _ = state.ResolverState.Attributes.Value(watcherKey{}).(connectionWatcher)
	known := append(p.gone, p.addresses...)
	p.addresses = nil
	for _, e := range state.ResolverState.Endpoints {
		key := endpointKey(e)
		if p.find(p.addresses, key) != nil {
			continue // named twice
		}
		a := p.find(known, key)
		if a == nil {
			a = &address{pool: p, key: key, endpoint: e}
		}
		a.index = len(p.addresses)
		p.addresses = append(p.addresses, a)
	}
	p.size.Store(int32(len(p.addresses)))
	p.gone = slices.DeleteFunc(known, func(a *address) bool { return p.find(p.addresses, a.key) != nil })
	for _, a := range p.addresses {
		if len(a.slots) == 0 {
			a.connect()
		}
	}
	for _, a := range p.gone {
		for _, s := range a.slots {
			s.close()
		}
		p.stop(a.avoided)
		a.avoided = nil
	}
	p.gone = slices.DeleteFunc(p.gone, func(a *address) bool { return a.open == 0 })
	p.publish()
	if len(p.addresses) == 0 {
		return balancer.ErrBadResolverState
	}
	return nil
}

// ResolverError sets why there is no address. Known addresses stay.
func (b balancing) ResolverError(err error) {
	p := b.pool
	defer p.panics.Catch("the balancer", p.broke)
	p.mu.Lock()
	defer p.unlock()
	if len(p.addresses) == 0 {
		p.failure = err
		p.publish()
	}
}

// Pick gives a call its place. Without a connection, it makes grpc-go wait for one.
// When all places are taken, Pick itself waits, against grpc-go's advice: an error
// would make grpc-go wake all calls for each place, in no order. grpc-go holds no
// lock meanwhile, and the call's context ends the wait.
func (b balancing) Pick(info balancer.PickInfo) (result balancer.PickResult, err error) {
	p := b.pool
	k, _ := info.Ctx.Value(callKey{}).(*Call) // nil: one of culvert's own streams, of reflection
	var its *place
	defer p.catchPick(k, &its, &err)
	for {
		c, err := p.findPlace(info.Ctx, k)
		if err != nil {
			return balancer.PickResult{}, err
		}
		if k == nil {
			return balancer.PickResult{SubConn: c.sub, Done: func(balancer.DoneInfo) { c.release(false) }}, nil
		}
		its = &place{Place: wire.Place{Call: &k.Call}, conn: c}
		taken, err := c.wire.Expect(info.Ctx, &its.Place)
		if taken {
			if before := k.place.Swap(its); before != nil {
				before.Replace()
			}
			return balancer.PickResult{SubConn: c.sub, Done: its.done}, nil
		}
		lost := its
		its = nil
		lost.done(balancer.DoneInfo{})
		if err != nil {
			return balancer.PickResult{}, err
		}
	}
}

// UpdateSubConnState is not called: each connection has a listener.
func (balancing) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle does nothing: the pool connects by itself.
func (balancing) ExitIdle() {}

// Close ends the pool's work. grpc-go closes the connections.
func (b balancing) Close() {
	p := b.pool
	defer p.panics.Catch("the balancer", nil)
	p.end()
	p.timers.Wait()
	p.checks.Wait()
}
