package upstream

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestTargetsArePassedOn: the address of each form of a target is dialled as it stands. The
// backend gets it without the zone, which says nothing to it.
func TestTargetsArePassedOn(t *testing.T) {
	for target, want := range map[string]struct{ dialled, authority string }{
		"[fe80::1%eth0]:9000":                     {"[fe80::1%eth0]:9000", "[fe80::1]:9000"},
		"[fe80::1%25eth0]:9000":                   {"[fe80::1%eth0]:9000", "[fe80::1]:9000"},
		"[fe80::1%ee0]:9000":                      {"[fe80::1%ee0]:9000", "[fe80::1]:9000"},
		"[fe80::1%25]:9000":                       {"[fe80::1%25]:9000", "[fe80::1]:9000"},
		"dns:///[fe80::1%eth0]:9000":              {"[fe80::1%eth0]:9000", "[fe80::1]:9000"},
		"dns://[fe80::5%eth0]/[fe80::1%eth0]:900": {"[fe80::1%eth0]:900", "[fe80::1]:900"},
		"dns:[fe80::1%eth0]:9000":                 {"[fe80::1%eth0]:9000", "[fe80::1]:9000"},
		"passthrough:///[fe80::1%eth0]:9000":      {"[fe80::1%eth0]:9000", "[fe80::1]:9000"},
		"[fe80::1]:9000":                          {"[fe80::1]:9000", "[fe80::1]:9000"},
		"unix:///run/50%.sock":                    {"unix:///run/50%.sock", "localhost"},
		"unix:///run/a%20b.sock":                  {"unix:///run/a b.sock", "localhost"},
	} {
		t.Run(target, func(t *testing.T) {
			authorities := make(chan string, 1)
			gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
				md, _ := metadata.FromIncomingContext(ss.Context())
				authorities <- md[":authority"][0]
				return nil
			}))
			b, stop := InProcess(gs)
			defer gs.Stop()
			defer stop()
			connect, dialled := b.Dial, make(chan string, 100)
			u, err := New(report.Backend{Target: target, Dial: func(ctx context.Context, address string) (net.Conn, error) {
				select {
				case dialled <- address:
					return connect(ctx, address)
				default:
					return nil, errors.New("too often")
				}
			}}, testMessages, testHeaderBytes, memory.New(1<<30, 0), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = u.Close() }() // nothing else closes it
			if e := callUpstream(within(t, patience), t, u, nil); e.status.Err() != nil {
				t.Fatal(e.status)
			}
			if got := <-dialled; got != want.dialled {
				t.Errorf("dials %q, want %q", got, want.dialled)
			}
			if got := <-authorities; got != want.authority {
				t.Errorf("the backend gets the authority %q, want %q", got, want.authority)
			}
		})
	}
}
