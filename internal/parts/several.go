package parts

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// Names is a name with several addresses, for a backend's target.
type Names struct {
	Target string

	resolver *manual.Resolver
}

// NewNames returns a name that has these addresses. A test has one at a time.
func NewNames(t testing.TB, addresses ...string) *Names {
	n := &Names{"several:///" + strings.ReplaceAll(t.Name(), "/", "-"), manual.NewBuilderWithScheme("several")}
	n.ResolveTo(addresses...)
	namesByTarget.Store(n.Target, n)
	t.Cleanup(func() { namesByTarget.Delete(n.Target) })
	return n
}

// NamesAt returns the name of a target.
func NamesAt(target string) *Names {
	n, _ := namesByTarget.Load(target)
	return n.(*Names)
}

// ResolveTo has the name resolve to these addresses.
func (n *Names) ResolveTo(addresses ...string) {
	var s resolver.State
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	n.resolver.UpdateState(s) // it ignores an error, which means a list without addresses
}

var namesByTarget sync.Map // *Names by target

// namesBuilder resolves the targets of Names.
type namesBuilder struct{}

func init() { resolver.Register(namesBuilder{}) }

func (namesBuilder) Scheme() string { return "several" }

func (namesBuilder) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	v, ok := namesByTarget.Load("several:///" + target.Endpoint())
	if !ok {
		return nil, fmt.Errorf("%s: no such backend", target.Endpoint())
	}
	return v.(*Names).resolver.Build(target, cc, opts)
}
