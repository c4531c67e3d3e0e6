package bridge

import (
	"slices"
	"testing"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
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
		got, unnamed, err := s.Services(within(t, patience), DefaultBackend)
		if err != nil || !slices.Equal(got, c.want) || !slices.Equal(unnamed, c.unnamed) {
			t.Errorf("%s: got %q, %q, %v; want %q, %q", c.name, got, unnamed, err, c.want, c.unnamed)
		}
	}
}
