package config

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestContradictionsOfBackends(t *testing.T) {
	for _, c := range []struct {
		name, file     string
		errs, warnings []string
	}{
		{"one", "backends: [{name: orders, address: orders:9000}]", nil, nil},
		{"one that gets no calls", "backends:\n- {name: default, address: users:9000}\n- name: orders\n  address: orders:9000", nil, []string{
			"proxy.yaml:3: backends[1]: … no calls … default",
		}},
		{"none is the default", "backends:\n- {name: users, address: users:9000}\n- {name: orders, address: orders:9000}", []string{
			"proxy.yaml:1: backends: … default",
		}, nil},
		{"a name twice", "backends:\n- {name: default, address: users:9000}\n- {name: default, address: orders:9000}", []string{
			"proxy.yaml:3: backends[1].name: … backends[0]",
		}, nil},
		{"no address", "backends:\n- {name: users}", []string{
			"proxy.yaml:2: backends[0] … address: \"localhost:9000\"",
		}, nil},
		{"an empty address", "backends:\n- {name: users, address: \"\"}", []string{
			"proxy.yaml:2: backends[0].address: … host:port",
		}, nil},
		{"no name", "backends:\n- {address: users:9000}", []string{
			"proxy.yaml:2: backends[0] … name: orders",
		}, nil},
		{"not a name", "backends:\n- {name: a b, address: users:9000}", []string{
			"proxy.yaml:2: backends[0].name: \"a b\" … letters",
		}, nil},
		{"a URL", "backends:\n- {name: users, address: https://users}", []string{
			"proxy.yaml:2: backends[0].address: … \"users:443\"",
		}, nil},
		{"both forms", "backend:\n  address: users:9000\n  tls: {ca: /ca.pem}\nbackends:\n- {name: orders, address: orders:9000}", []string{
			"proxy.yaml:2: backend.address: … proxy.yaml:4 … \"- name: default\" … address: …, tls: {ca: …}",
		}, nil},
		{"certificates that lack a part", "backends:\n- name: users\n  address: users:9000\n  tls: {cert: /c.pem}\n- name: default\n  address: orders:9000\n  tls: {key: /k.pem}\n- name: admin\n  address: admin:9000\n  tls: {ca: /ca.pem, enabled: false}", []string{
			"proxy.yaml:4: backends[0].tls.cert: … backends[0].tls.key",
			"proxy.yaml:7: backends[1].tls.key: … backends[1].tls.cert",
			"proxy.yaml:10: backends[2].tls.ca: … proxy.yaml:10: backends[2].tls.enabled",
		}, []string{
			"proxy.yaml:2: backends[0]: … no calls",
			"proxy.yaml:8: backends[2]: … no calls",
		}},
		{"culvert itself", "listen: 127.0.0.1:8080\nbackends:\n- {name: users, address: localhost:8080}", []string{
			"proxy.yaml:3: backends[0].address: … port … --listen",
		}, nil},
		{"a policy for one address", "backends:\n- {name: users, address: 192.0.2.1:9000, balance: pick_first}", nil, []string{
			"proxy.yaml:2: backends[0].balance: … no effect",
		}},
		{"frequent pings", "backends:\n- {name: users, address: users:9000, keepalive: 30s}", nil, []string{
			"proxy.yaml:2: backends[0].keepalive: … ping … 5m",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(c.file, "listen:") {
				c.file += "\nlisten: 127.0.0.1:0"
			}
			loadSays(t, "proxy.yaml", c.file, c.errs, c.warnings)
		})
	}
}

// TestFlagsAndVariablesBesideBackends: the error names the flag or the variable, and
// shows the same as an entry.
func TestFlagsAndVariablesBesideBackends(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("CULVERT_BACKEND_QUEUE_TIMEOUT", "1s")
	file := write(t, "proxy.yaml", "backends: [{name: orders, address: orders:9000}]")
	_, err := Load(Options{}, file, map[string]any{"backend.address": "users:9000", "backend.tls.ca": "ca.pem"})
	if err == nil {
		t.Fatal("no error")
	}
	got := strings.Split(err.Error(), "\n")
	if want := []string{
		"--backend: … backend.address … proxy.yaml:1 … \"- name: default\" … address: …",
		"--backend-ca: … backend.tls.ca … proxy.yaml:1 … \"- name: default\" … tls: {ca: …}",
		"CULVERT_BACKEND_QUEUE_TIMEOUT: … backend.queue_timeout … proxy.yaml:1 … \"- name: default\" … queue_timeout: …",
	}; !sayAll(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestEntriesHaveTheDefaultsOfBackend, and not those that nothing sets.
func TestEntriesHaveTheDefaultsOfBackend(t *testing.T) {
	clearEnvironment(t)
	file := write(t, "proxy.yaml", `
backends:
- {name: default, address: users:9000}
- {name: orders, address: orders:9000, max_connections: 0, tls: {ca: /ca.pem}}
`)
	l, err := Load(Options{}, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	users, orders := Defaults().Backend, Defaults().Backend
	users.Address, orders.Address, orders.MaxConnections = "users:9000", "orders:9000", 0
	orders.TLS = BackendTLS{Enabled: true, CA: "/ca.pem"}
	if users.QueueTimeout != 5*time.Second {
		t.Errorf("the queue time-out is %v by default", users.QueueTimeout)
	}
	if want := []NamedBackend{{"default", users}, {"orders", orders}}; !reflect.DeepEqual(l.Backends, want) {
		t.Errorf("got  %+v\nwant %+v", l.Backends, want)
	}
	if got := l.BackendSections(); len(got) != 2 || got[1].Section != "backends[1]" || got[1].Name != "orders" || got[1].Backend != &l.Backends[1].Backend {
		t.Errorf("the sections are %+v", got)
	}
	var printed bytes.Buffer
	if err := l.Print(&printed); err != nil {
		t.Fatal(err)
	}
	again, err := Load(Options{}, write(t, "printed.yaml", printed.String()), nil)
	if err != nil || !reflect.DeepEqual(again.Config, l.Config) {
		t.Errorf("printed, it is %+v, %v\nwant %+v\n%s", again.Config, err, l.Config, &printed)
	}
	if text := k("backends").entriesText(reflect.ValueOf(&l.Config).Elem()); !reflect.DeepEqual(text, []section{
		{"name": "default", "address": "users:9000"},
		{"name": "orders", "address": "orders:9000", "max_connections": "0", "tls.enabled": "true", "tls.ca": "/ca.pem"},
	}) {
		t.Errorf("the entries set %v", text)
	}
}

func k(name string) Key { return fileKeys.key(name) }
