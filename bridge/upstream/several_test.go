package upstream

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// several is a backend with several addresses in memory, "0", "1" and so on.
type several struct {
	report.Backend

	each      []*countedBackend
	endpoints []resolver.Endpoint // to begin with
	cc        resolver.ClientConn // of its upstream
}

// newSeveral returns a backend with n addresses. Its name has all of them.
func newSeveral(t *testing.T, n int, streams uint32, opts ...grpc.ServerOption) *several {
	t.Helper()
	s := &several{}
	for i := range n {
		s.each = append(s.each, newCountedBackend(t, streams, opts...))
		s.endpoints = append(s.endpoints, endpoint(i))
	}
	s.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		var i int
		if _, err := fmt.Sscan(address, &i); err != nil {
			return nil, err
		}
		return s.each[i].dial(ctx, address)
	}
	s.Target = "several:///" + strings.ReplaceAll(t.Name(), "/", "-")
	severalByTarget.Store(s.Target, s)
	t.Cleanup(func() { severalByTarget.Delete(s.Target) })
	return s
}

func endpoint(i int) resolver.Endpoint {
	return resolver.Endpoint{Addresses: []resolver.Address{{Addr: fmt.Sprint(i)}}}
}

// severalAt returns a backend whose name has these addresses of TCP.
func severalAt(t testing.TB, addresses ...string) report.Backend {
	s := &several{}
	s.Target = "several:///" + strings.ReplaceAll(t.Name(), "/", "-")
	s.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	for _, a := range addresses {
		s.endpoints = append(s.endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	severalByTarget.Store(s.Target, s)
	t.Cleanup(func() { severalByTarget.Delete(s.Target) })
	return s.Backend
}

// resolveTo has the name resolve to these addresses.
func (s *several) resolveTo(addresses ...int) {
	var state resolver.State
	for _, a := range addresses {
		state.Endpoints = append(state.Endpoints, endpoint(a))
	}
	_ = s.cc.UpdateState(state) // an error means a list without addresses
	synctest.Wait()
}

// calls returns the calls that run at each address.
func (s *several) calls() (calls []int) {
	for _, b := range s.each {
		sum := 0
		for _, n := range b.callsBy() {
			sum += n
		}
		calls = append(calls, sum)
	}
	return calls
}

var severalByTarget sync.Map // *several by target

// severalBuilder resolves the targets of several.
type severalBuilder struct{}

func init() { resolver.Register(severalBuilder{}) }

func (severalBuilder) Scheme() string { return "several" }

func (severalBuilder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	v, ok := severalByTarget.Load("several:///" + target.Endpoint())
	if !ok {
		return nil, fmt.Errorf("%s: no such backend", target.Endpoint())
	}
	s := v.(*several)
	s.cc = cc
	return severalResolver{}, cc.UpdateState(resolver.State{Endpoints: s.endpoints})
}

type severalResolver struct{}

func (severalResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (severalResolver) Close() {}
