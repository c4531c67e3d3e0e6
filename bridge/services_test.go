package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// reflecting is a backend with two services of its own, health, channelz, and
// reflection of them.
func reflecting() *grpc.Server {
	gs := grpc.NewServer()
	healthpb.RegisterHealthServer(gs, health.NewServer())
	channelz.RegisterChannelzServiceToServer(gs)
	for _, name := range []string{"acme.Shop", "acme.Admin"} {
		gs.RegisterService(&grpc.ServiceDesc{ServiceName: name, Methods: []grpc.MethodDesc{{MethodName: "Do"}}}, nil)
	}
	reflection.Register(gs)
	return gs
}

// TestServicesThatAreExposed: what the backend offers and the policy lets
// across, some of its methods at least.
func TestServicesThatAreExposed(t *testing.T) {
	gs := reflecting()
	backend, stop := InProcess(gs)
	t.Cleanup(stop)
	t.Cleanup(gs.Stop)
	const (
		admin, shop = "acme.Admin", "acme.Shop"
		healthy     = "grpc.health.v1.Health"
		reflect     = "grpc.reflection.v1.ServerReflection"
		reflectOld  = "grpc.reflection.v1alpha.ServerReflection"
		insides     = "grpc.channelz.v1.Channelz"
	)
	for _, c := range []struct {
		name        string
		allow, deny []string
		want        []string
		unnamed     []string
	}{
		{"by default", nil, nil, []string{admin, shop, healthy, reflect, reflectOld}, nil},
		{"without one", nil, []string{"acme.Admin/*"}, []string{shop, healthy, reflect, reflectOld}, nil},
		{"without one's method", nil, []string{"acme.Admin/Do"}, []string{admin, shop, healthy, reflect, reflectOld}, nil},
		{"one alone", []string{"acme.Shop/*"}, nil, []string{shop}, []string{admin}},
		{"one alone, and the other denied", []string{"acme.Shop/*"}, []string{"acme.Admin/*"}, []string{shop}, nil},
		{"one's method alone", []string{"acme.Shop/Do"}, nil, []string{shop}, []string{admin}},
		{"what shows insides, by name", []string{"grpc.channelz.v1.*/*"}, nil, []string{insides}, []string{admin, shop}},
		{"all but one", []string{"acme.*/*"}, []string{"*.Admin/*"}, []string{shop}, nil},
		{"none", nil, []string{"*/*"}, nil, nil},
	} {
		s := newServer(t, Config{Backend: backend, AllowMethods: c.allow, DenyMethods: c.deny})
		got, unnamed, err := s.Services(within(t, patience))
		if err != nil || !slices.Equal(got, c.want) || !slices.Equal(unnamed, c.unnamed) {
			t.Errorf("%s: got %q, %q, %v; want %q, %q", c.name, got, unnamed, err, c.want, c.unnamed)
		}
	}
}

func TestServicesOfABackendWithoutReflection(t *testing.T) {
	address := startBackend(t, func(grpc.ServerStream) error { return status.Error(codes.Unimplemented, "unknown service") })
	s := newServer(t, Config{Backend: Backend{Target: address}})
	if got, _, err := s.Services(within(t, patience)); !errors.Is(err, ErrNoReflection) || got != nil {
		t.Errorf("got %q, %v; want %v", got, err, ErrNoReflection)
	}
}

func TestServicesOfABackendThatFails(t *testing.T) {
	for name, handle := range map[string]func(ss grpc.ServerStream) error{
		"with a status": func(grpc.ServerStream) error { return status.Error(codes.PermissionDenied, "no reflection for you") },
		"with garbage": func(ss grpc.ServerStream) error {
			if err := ss.RecvMsg(new([]byte)); err != nil {
				return err
			}
			return ss.SendMsg([]byte{0xff})
		},
		"with nothing": func(ss grpc.ServerStream) error { return ss.RecvMsg(new([]byte)) },
	} {
		address := startBackend(t, handle)
		s := newServer(t, Config{Backend: Backend{Target: address}})
		if got, _, err := s.Services(within(t, patience)); err == nil || errors.Is(err, ErrNoReflection) || got != nil || !strings.HasPrefix(err.Error(), "server reflection: ") {
			t.Errorf("%s: got %q, %v; want an error of server reflection", name, got, err)
		}
	}
}

// TestServicesWaitsForTheBackend, and no longer than it may.
func TestServicesWaitsForTheBackend(t *testing.T) {
	gs := reflecting()
	backend, stop := InProcess(gs)
	t.Cleanup(stop)
	t.Cleanup(gs.Stop)
	var there atomic.Bool
	tried := make(chan struct{}, 64) // more than come
	direct := backend.Dial
	backend.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		tried <- struct{}{}
		if !there.Load() {
			return nil, io.ErrClosedPipe
		}
		return direct(ctx, address)
	}
	s := newServer(t, Config{Backend: backend})
	var names []string
	var err error
	var asking sync.WaitGroup
	asking.Go(func() { names, _, err = s.Services(within(t, patience)) })
	for range 3 {
		await(t, "an attempt to connect", tried)
	}
	there.Store(true)
	asking.Wait()
	if err != nil || len(names) == 0 {
		t.Errorf("got %q, %v; want the services", names, err)
	}

	gone := newServer(t, Config{Backend: nowhere})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, _, err := gone.Services(ctx); err == nil {
		t.Errorf("got %q of a backend that isn't there", got)
	}
}
