package bridge

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

func TestRefusedMethodIsNamed(t *testing.T) {
	p, err := routing.NewMethodPolicy(nil, []string{"acme.Admin/*"})
	if err != nil {
		t.Fatal(err)
	}
	only, err := upstream.New(nowhere, report.SizeLimit{}, 1<<10, memory.New(1<<20, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	set := upstream.NewSet()
	defer set.Close()
	if err := set.Put(DefaultBackend, only); err != nil {
		t.Fatal(err)
	}
	rt := &router{policy: p, upstreams: set, refusals: report.NewRefusals(slog.New(slog.DiscardHandler), report.Discard())}
	f, ok := errors.AsType[*report.Fault](rt.authorize("/acme.Admin/Drop", "192.0.2.1"))
	if !ok || f.Reason != report.ReasonNoRoute || !strings.Contains(f.Text, "/acme.Admin/Drop") || f.Key != "methods.deny" || f.Detail != "/acme.Admin/Drop" {
		t.Errorf("got %+v, want %v that names the method and the key", f, report.ReasonNoRoute)
	}
	if err := rt.authorize(testMethod, "192.0.2.1"); err != nil {
		t.Errorf("a method that no pattern denies: %v", err)
	}
	if got, err := rt.acquire(DefaultBackend); err != nil || got != only {
		t.Errorf("got %p, %v; want the upstream", got, err)
	} else {
		got.Release()
	}
}

// TestHintForADeniedMethod: where there is no list of methods yet, a first
// pattern refuses everything else, and the hint says so.
func TestHintForADeniedMethod(t *testing.T) {
	for _, c := range []struct {
		allow []string
		want  bool
	}{{nil, true}, {[]string{"acme.Shop/*"}, false}} {
		var out bytes.Buffer
		s := newServer(t, Config{Backend: nowhere, AllowMethods: c.allow, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		r := webCall(t)
		r.RequestURI, r.URL.Path = "/grpc.channelz.v1.Channelz/GetServers", "/grpc.channelz.v1.Channelz/GetServers"
		answerTo(s, r)
		if !strings.Contains(out.String(), "--allow-method grpc.channelz.v1.Channelz/GetServers") || strings.Contains(out.String(), "pattern") != c.want {
			t.Errorf("with %q allowed: %s", c.allow, &out)
		}
	}
}
