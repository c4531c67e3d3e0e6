package wiring

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/config"
)

// TestEveryKeyOfARouteReachesTheBridge: no field of the bridge's Route is left out.
func TestEveryKeyOfARouteReachesTheBridge(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	got := routes(cmdtest.Load(t, `
listen: [{address: ":0", name: public}]
limits: {idle_timeout: 1m, max_age: 1h}
backends: [{name: a, address: a:1}, {name: b, address: b:1}]
routes:
- name: one
  match:
    hosts: ["*.example.com"]
    path_prefix: /team
    methods: [shop.v1.Orders/*]
    metadata: [{name: x-canary, value: "1"}, {name: x-any}]
    listeners: [public]
    transports: [grpc]
  split: [{backend: a, weight: 9}, {backend: b, weight: 1}]
  sticky: x-user
  rewrite: {path_prefix: /, authority: orders.internal}
  metadata: {set: [{name: x-a, value: secret}], remove: [x-b]}
  timeout: 5s
  idle_timeout: 7s
  max_age: 0s
  retry: {attempts: 3, codes: [UNAVAILABLE, CANCELLED], backoff: 50ms, max_backoff: 2s}
  limits: {calls: 1, calls_per_second: 2, decompressed_bytes_per_second: 3KiB, message_bytes: 4KiB, header_bytes: 5KiB}
- name: two
  backend: b
  allow_origins: [https://app.example.com]
  message: {path: /ws, method: shop.v1.Orders/Watch, framing: protobuf, poll_method: shop.v1.Orders/Poll, subprotocol: shop, query: [x-room], first_message: authorization, refresh: "@authorization", half_close: done, last_message: status, unknown_fields: reject, field_names: proto, enums: numbers, defaults: true, json_out: binary, event_id: number}
`))
	want := []bridge.Route{{
		Name: "one",
		Match: report.Match{
			Hosts: []string{"*.example.com"}, PathPrefix: "/team", Methods: []string{"shop.v1.Orders/*"},
			Metadata: []report.Condition{{Name: "x-canary", Value: "1"}, {Name: "x-any"}}, Listeners: []string{"public"}, Transports: []string{"grpc"},
		},
		Split: []report.Target{{Backend: "a", Weight: 9}, {Backend: "b", Weight: 1}}, Sticky: "x-user",
		Rewrite: "/", Authority: "orders.internal",
		SetMetadata: []bridge.MetadataValue{{Name: "x-a", Value: "secret"}}, RemoveMetadata: []string{"x-b"},
		Timeout: 5 * time.Second, IdleTimeout: 7 * time.Second, MaxAge: -1, MessageBytes: 4 << 10, HeaderBytes: 5 << 10,
		Retry:  bridge.Retry{Attempts: 3, Codes: []codes.Code{codes.Unavailable, codes.Canceled}, Backoff: 50 * time.Millisecond, MaxBackoff: 2 * time.Second},
		Limits: bridge.Quota{Calls: 1, CallsPerSecond: 2, DecompressedPerSecond: 3 << 10},
	}, {Name: "two", Backend: "b", AllowOrigins: []string{"https://app.example.com"}, Message: &bridge.MessageRoute{
		Path: "/ws", Method: "shop.v1.Orders/Watch", Framing: bridge.FramingProtobuf, PollMethod: "shop.v1.Orders/Poll",
		Subprotocol: "shop", Query: []string{"x-room"}, FirstMessage: "authorization", Refresh: "@authorization", HalfClose: "done", LastStatus: true,
		JSON: report.JSON{RejectUnknown: true, ProtoNames: true, EnumNumbers: true, Defaults: true}, BinaryOut: true, EventID: "number",
	}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	of := reflect.ValueOf(got)
	for i := range of.Index(0).NumField() {
		if of.Index(0).Field(i).IsZero() && of.Index(1).Field(i).IsZero() {
			t.Errorf("%s is set in neither route", of.Type().Elem().Field(i).Name)
		}
	}
}

// TestTenThousandRoutes load and are checked, without an error or a warning.
func TestTenThousandRoutes(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	var file strings.Builder
	file.WriteString("backend: {address: a:1}\nroutes:\n")
	for i := range 10_000 {
		fmt.Fprintf(&file, "- {name: r%d, match: {hosts: [h%[1]d.example.com], methods: [shop.v1.Orders/*]}, backend: default}\n", i)
	}
	c := cmdtest.Load(t, file.String())
	s, err := New(Bridge(c), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if w := Warnings(c); len(w) > 0 {
		t.Errorf("warned: %v", w[0])
	}
}

// TestRouteErrorsHaveTheirPlaces, for each kind of key.
func TestRouteErrorsHaveTheirPlaces(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	c := cmdtest.Load(t, `backend: {address: a:1}
routes:
- name: one
  match: {hosts: [a.example]}
  backend: default
- name: two
  match: {hosts: [b.example, a.example]}
  backend: default
- name: three
  match:
    metadata: [{name: x-a}, {name: origin}]
    methods: [a.B/C, ":/x y"]
  metadata:
    set:
    - {name: x-a, value: a}
    - {name: grpc-timeout, value: a}
  backend: gone
`)
	_, err := New(Bridge(c), c)
	if err == nil {
		t.Fatal("the bridge takes the routes")
	}
	for _, want := range []string{
		`:6: routes[1].match: matches the same requests as the route "one"`, `:3: routes[0])`,
		":11: routes[2].match.metadata[1].name: can match no call",
		":12: routes[2].match.methods: can match no method",
		":16: routes[2].metadata.set[1].name: can't be set",
		`:17: routes[2].backend: names no backend: there is no "gone"; use one of default`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got\n%v\nwant %s", err, want)
		}
	}
}

// TestShadowedRoutesAreWarnedOf with both places.
func TestShadowedRoutesAreWarnedOf(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	c := cmdtest.Load(t, `listen: [{address: ":1", name: one}, {address: ":2", name: two}]
backend: {address: a:1}
routes:
- {name: rest, backend: default}
- {name: a, match: {listeners: [one]}, backend: default}
- {name: b, match: {listeners: [two]}, backend: default}
`)
	got := Warnings(c)
	if len(got) != 1 || !strings.Contains(got[0], `:4: routes[0]: can never match: the route "`) || !strings.Contains(got[0], ": routes[") {
		t.Errorf("got %q", got)
	}
	c = cmdtest.Load(t, `listen: [{address: ":1", name: one, transports: [grpc, h2ts]}, {address: ":2", name: two}]
backend: {address: a:1}
routes:
- {name: page, match: {listeners: [one], transports: [grpc-web]}, backend: default}
- {name: tunnel, match: {listeners: [one], transports: [h2ts]}, backend: default}
- {name: rest, backend: default}
`)
	if got := Warnings(c); len(got) != 1 || !strings.Contains(got[0], ":4: routes[0]: can never match: no listener that it matches accepts a client protocol that it matches (listen[].transports)") {
		t.Errorf("got %q", got)
	}
	c = cmdtest.Load(t, `listen: [{address: "127.0.0.1:1", name: one}, {address: ":2", name: two}, {address: "127.0.0.1:3", name: tls, tls: {self_signed: true}}]
backend: {address: a:1}
hosts: [api.example.com, "B.example.com:8443", localhost]
routes:
- {name: a, match: {hosts: [other.example.com, api.example.com, b.example.com., 127.0.0.1, "::1", "[::1]", "*.example.com", "*"], listeners: [one]}, backend: default}
- {name: b, match: {hosts: ["*.other.example.com", "*.localhost"], listeners: [one]}, backend: default}
- {name: c, match: {hosts: [other.example.org], listeners: [one, two]}, backend: default}
- {name: d, match: {hosts: [tls.example.org], listeners: [tls]}, backend: default}
`)
	if got := Warnings(c); len(got) != 2 || !strings.Contains(got[0], `:5: routes[0].match.hosts: "other.example.com" gets no calls`) || !strings.Contains(got[1], `:6: routes[1].match.hosts: "*.other.example.com" gets no calls`) {
		t.Errorf("got %q", got)
	}
	if got := Warnings(&config.Loaded{}); got != nil {
		t.Errorf("without routes: %q", got)
	}
}

// TestRoutesWhoseMethodsAreRefusedAreWarnedOf judges the names that backends receive, and
// warns only if no call can cross.
func TestRoutesWhoseMethodsAreRefusedAreWarnedOf(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	for _, c := range []struct{ methods, route, want string }{
		{"{deny: [a.B/*]}", "match: {methods: [a.B/Get, a.B/Put*]}", "methods.deny"},
		{"{deny: [a.B/*]}", "match: {methods: [a.B/Get, a.C/Get]}", ""},
		{"{deny: [a.B/*]}", "match: {path_prefix: /a.B}", "methods.deny"},
		{"{deny: [a.B/*]}", "match: {path_prefix: /team}, rewrite: {path_prefix: /a.B}", "methods.deny"},
		{"{deny: [team/*]}", "match: {path_prefix: /team}, rewrite: {path_prefix: /a.B}", ""},
		{"{deny: ['a.B/G?t']}", "match: {methods: [a.B/G*]}", ""},
		{"{deny: ['*/*']}", "match: {hosts: [a.example.com]}", "methods.deny"},
		{"{deny: [a.B/*], enforce: false}", "match: {methods: [a.B/Get]}", ""},
		{"{allow: [a.B/*]}", "match: {methods: [a.C/*]}", "methods.allow"},
		{"{allow: [a.B/*]}", "match: {methods: ['*/Get']}", ""},
		{"{allow: [a.B/*], enforce: false}", "match: {methods: [a.C/*]}", ""},
		{"{allow: [a.B/*], deny: [a.B/Put]}", "match: {methods: [a.B/Put, a.C/*]}", "methods.deny, FILE:2: methods.allow"},
		{"{enforce: false}", "match: {methods: [grpc.channelz.v1.Channelz/*]}", "methods.allow"},
		{"{allow: [grpc.channelz.v1.Channelz/Get*]}", "match: {methods: [grpc.channelz.v1.Channelz/*]}", ""},
	} {
		l := cmdtest.Load(t, "backend: {address: a:1}\nmethods: "+c.methods+"\nroutes:\n- {name: one, "+c.route+", backend: default}\n- {name: rest, match: {hosts: [other.example.com], methods: [x.Y/Z]}, backend: default}\n")
		var got []string
		for _, w := range Warnings(l) {
			if strings.Contains(w, ":4: routes[0]: ") {
				got = append(got, w)
			}
		}
		if want := strings.ReplaceAll(c.want, "FILE", l.File); want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], "can never carry a call: ") || !strings.Contains(got[0], want+")") || !strings.Contains(got[0], "; change match")) {
			t.Errorf("methods: %s, %s: got %q, want %q", c.methods, c.route, got, want)
		}
	}
}
