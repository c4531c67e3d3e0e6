package config

import (
	"testing"
)

func TestContradictionsAndDangers(t *testing.T) {
	for _, c := range []struct {
		name, file     string
		errs, warnings []string
	}{
		{"a certificate alone", "backend: {tls: {cert: /c.pem}}", []string{
			"proxy.yaml:1: backend.tls.cert: … backend.tls.key … --backend-key",
		}, nil},
		{"a key alone", "backend: {tls: {key: /k.pem}}", []string{
			"proxy.yaml:1: backend.tls.key: … backend.tls.cert … --backend-cert",
		}, nil},
		{"a CA without TLS", "backend:\n  tls:\n    enabled: false\n    ca: /ca.pem", []string{
			"proxy.yaml:4: backend.tls.ca: … proxy.yaml:3: backend.tls.enabled … remove",
		}, nil},
		{"the port that culvert listens on", "backend: {address: localhost:8080}", []string{
			"proxy.yaml:1: backend.address: … port … --listen",
		}, nil},
		{"the same port of two loopback addresses", "listen: 127.0.0.1:8080\nbackend: {address: 127.0.0.2:8080}", nil, nil},
		{"the same port of another host", "backend: {address: orders:8080}", nil, nil},
		{"a web server that is culvert itself", "fallback: http://localhost:8080", []string{
			"proxy.yaml:1: fallback: … listen[0] … itself … --fallback",
		}, nil},
		{"a web server that is culvert itself, in capitals", "fallback: http://LOCALHOST.:8080", []string{
			"proxy.yaml:1: fallback: … listen[0] … itself",
		}, nil},
		{"a web server by its name for loopback", "listen: 127.0.0.1:8080\nfallback: http://app.localhost:8080", []string{
			"proxy.yaml:2: fallback: … listen[0] … itself",
		}, nil},
		{"the port that culvert listens on, as one number", "listen: localhost:8080\nbackend: {address: '2130706433:08080'}", []string{
			"proxy.yaml:2: backend.address: … port … --listen",
		}, nil},
		{"a web server on the port of TLS", "listen: :443\nfallback: https://127.0.0.1", []string{
			"proxy.yaml:2: fallback: … listen[0] … itself",
		}, []string{"proxy.yaml:1: listen: … plaintext"}},
		{"a web server on the same socket", "listen: unix:/run/culvert.sock\nfallback: unix:///run/culvert.sock", []string{
			"proxy.yaml:2: fallback: … listen[0] … itself",
		}, nil},
		{"a web server at the health checks", "fallback: http://127.0.0.1:9901", []string{
			"proxy.yaml:1: fallback: … health.listen … itself",
		}, nil},
		{"a web server at the admin address", "fallback: http://localhost:9902", []string{
			"proxy.yaml:1: fallback: … admin.listen … itself",
		}, nil},
		{"a web server by culvert's own name", "hosts: [app.example.com]\nfallback: https://App.example.com", nil, []string{
			"proxy.yaml:2: fallback: … hosts … own address",
		}},
		{"the web server's port on another address", "listen: 127.0.0.1:8080\nfallback: http://127.0.0.2:8080", nil, nil},
		{"frequent pings", "backend: {keepalive: 30s}", nil, []string{
			"proxy.yaml:1: backend.keepalive: … ping … 5m",
		}},
		{"every origin", `allow_origins: ["*"]`, nil, []string{
			`proxy.yaml:1: allow_origins: … "*" … origins`,
		}},
		{"every origin with cookies", "allow_origins: [\"*\"]\nmetadata:\n  forward_cookies: true\n  forward_set_cookies: true", []string{
			`proxy.yaml:3: metadata.forward_cookies: … cookies … allow_origins … "*"`,
			`proxy.yaml:4: metadata.forward_set_cookies: … cookies … allow_origins … "*"`,
		}, []string{
			`proxy.yaml:1: allow_origins: … "*" … origins`,
		}},
		{"every origin and the opaque", `allow_origins: ["*", "null"]`, nil, []string{
			`proxy.yaml:1: allow_origins: … "*" … origins`,
		}},
		{"cookies of origins that aren't named", "allow_origins: [\"https://app.example.com\", \"https://*.example.com\"]\nmetadata:\n  forward_cookies: true\n  forward_set_cookies: true", nil, []string{
			`proxy.yaml:3: metadata.forward_cookies: … cookies … allow_origins … pattern`,
			`proxy.yaml:4: metadata.forward_set_cookies: … cookies … allow_origins … pattern`,
		}},
		{"cookies of opaque origins", "allow_origins: [\"null\"]\nmetadata: {forward_cookies: true}", nil, []string{
			`proxy.yaml:2: metadata.forward_cookies: … cookies … allow_origins … pattern`,
		}},
		{"cookies of origins that are named", "allow_origins: [\"https://app.example.com\"]\nmetadata: {forward_cookies: true}", nil, nil},
		{"rules that are tried out", "enforce_origins: false\nmethods:\n  enforce: false", nil, []string{
			`proxy.yaml:1: enforce_origins: … origin … true`,
			`proxy.yaml:3: methods.enforce: … methods … true`,
		}},
		{"everybody is trusted", "trusted_proxies: [0.0.0.0/0]", nil, []string{
			"proxy.yaml:1: trusted_proxies: … everybody … addresses",
		}},
		{"details for the world", "errors: detailed", nil, []string{
			"proxy.yaml:1: errors: detailed … concise",
		}},
		{"details for this host", "errors: detailed\nlisten: 127.0.0.1:8080", nil, nil},
		{"a budget below one message", "limits: {buffered_bytes: 1MiB}", []string{
			"proxy.yaml:1: limits.buffered_bytes: … limits.message_bytes",
		}, nil},
		{"a message over the budget", "limits: {message_bytes: 1GiB}", []string{
			"proxy.yaml:1: limits.message_bytes: … limits.buffered_bytes",
		}, nil},
		{"limits that don't fit", "limits:\n  message_bytes: 2GiB\n  buffered_bytes: 4GiB\n  header_bytes: 17MiB\n  calls_per_connection: 10001", []string{
			"proxy.yaml:2: limits.message_bytes: … 2GiB",
			"proxy.yaml:4: limits.header_bytes: … 16MiB",
			"proxy.yaml:5: limits.calls_per_connection: … 10000",
		}, nil},
		{"a public certificate alone", "tls: {cert: /c.pem}", []string{
			"proxy.yaml:1: tls.cert: … tls.key … --tls-key",
		}, nil},
		{"a public key alone", "tls: {key: /k.pem}", []string{
			"proxy.yaml:1: tls.key: … tls.cert … --tls-cert",
		}, nil},
		{"TLS without a certificate", "tls:\n  client_ca: /ca.pem\n  client_auth: require\n  crls: [/crl.pem]\n  min_version: 1.3\n  http_listen: :80", []string{
			"proxy.yaml:2: tls.client_ca: … tls.cert … tls.key … --tls-cert … --tls-key",
			"proxy.yaml:3: tls.client_auth: … tls.cert … tls.key … --tls-cert … --tls-key",
			"proxy.yaml:4: tls.crls: … tls.cert … tls.key … --tls-cert … --tls-key",
			"proxy.yaml:5: tls.min_version: … tls.cert … tls.key … --tls-cert … --tls-key",
			"proxy.yaml:6: tls.http_listen: … tls.cert … tls.key … --tls-cert … --tls-key",
		}, nil},
		{"certificates that nobody may have signed", "tls: {self_signed: true, client_auth: optional}", []string{
			"proxy.yaml:1: tls.client_auth: … tls.client_ca … --tls-client-ca",
		}, nil},
		{"signers of what nobody is asked for", "tls: {self_signed: true, client_ca: /ca.pem, client_auth: none}", []string{
			"proxy.yaml:1: tls.client_ca: … tls.client_auth … remove",
		}, nil},
		{"revoked without signers", "tls: {self_signed: true, crls: [/crl.pem]}", []string{
			"proxy.yaml:1: tls.crls: … tls.client_ca … --tls-client-ca",
		}, nil},
		{"two certificates", "tls:\n  cert: /c.pem\n  key: /k.pem\n  self_signed: true", []string{
			"proxy.yaml:4: tls.self_signed: … proxy.yaml:2: tls.cert … remove",
		}, nil},
		{"names of nothing", "tls: {self_signed_names: [app.test]}", []string{
			"proxy.yaml:1: tls.self_signed_names: … tls.self_signed … --tls-self-signed",
		}, nil},
		{"the redirect on the port itself", "tls: {self_signed: true, http_listen: 127.0.0.1:8080}", []string{
			"proxy.yaml:1: tls.http_listen: … port … listen",
		}, nil},
		{"the redirect on the port of health checks", "tls: {self_signed: true, http_listen: 127.0.0.1:9901}", []string{
			"proxy.yaml:1: tls.http_listen: … port … health.listen",
		}, nil},
		{"a redirect of nobody", "tls: {self_signed: true, http_target: 443}", []string{
			"proxy.yaml:1: tls.http_target: … tls.http_listen … \":80\"",
		}, nil},
		{"a budget over the memory", "limits: {memory: 100MiB, buffered_bytes: 80MiB}", []string{
			"proxy.yaml:1: limits.buffered_bytes: … limits.memory … 52MiB",
		}, nil},
		{"no memory for a message", "limits: {memory: 40MiB}", nil, []string{
			"proxy.yaml:1: limits.memory: … 13MiB … limits.message_bytes",
		}},
		{"no memory to live", "limits: {memory: 16MiB}", []string{
			"proxy.yaml:1: limits.memory: … 32MiB",
		}, nil},
		{"bytes a second beyond counting", "limits:\n  decompressed_bytes_per_second: 2GiB\n  address: {decompressed_bytes_per_second: 3GiB}", []string{
			"proxy.yaml:2: limits.decompressed_bytes_per_second: … 2GiB … 0",
			"proxy.yaml:3: limits.address.decompressed_bytes_per_second: … 2GiB … 0",
		}, nil},
		{"an address that may more than all", "limits: {calls: 10, address: {calls: 11, calls_per_second: 11}}", nil, []string{
			"proxy.yaml:1: limits.address.calls: … limits.calls",
		}},
		{"methods that can't be", "limits:\n  methods:\n  - {pattern: a.B/*, message_bytes: 2GiB}\n  - pattern: a.C/*\n    message_bytes: 257MiB\n  - pattern: a.B/*", []string{
			"proxy.yaml:3: limits.methods[0].message_bytes: … 2GiB",
			"proxy.yaml:5: limits.methods[1].message_bytes: … limits.buffered_bytes",
			"proxy.yaml:6: limits.methods[2].pattern: … proxy.yaml:3: limits.methods[0].pattern",
		}, nil},
		{"methods that another pattern has first", "limits:\n  methods:\n  - {pattern: shop.v1.*/Get*, calls: 1}\n  - {pattern: shop.v1.Orders/GetAll, calls: 2}\n  - {pattern: shop.v1.Orders/*, calls: 3}\n  - {pattern: /shop.v1.*/Get*One, calls: 4}", nil, []string{
			"proxy.yaml:4: limits.methods[1].pattern: … proxy.yaml:3: limits.methods[0].pattern",
			"proxy.yaml:6: limits.methods[3].pattern: … proxy.yaml:3: limits.methods[0].pattern",
		}},
		{"samples that another pattern has first", "log:\n  sample:\n  - {pattern: shop.v1.*/Get*, one_in: 100}\n  - {pattern: shop.v1.*/Get*, one_in: 10}\n  - {pattern: shop.v1.Orders/GetAll, one_in: 1}\n  - {pattern: shop.v1.Orders/*, one_in: 2}", []string{
			"proxy.yaml:4: log.sample[1].pattern: … proxy.yaml:3: log.sample[0].pattern",
		}, []string{
			"proxy.yaml:5: log.sample[2].pattern: … proxy.yaml:3: log.sample[0].pattern",
		}},
		{"fields that are there twice", "log:\n  fields: [host, metadata.a, host]", []string{"proxy.yaml:2: log.fields: … host … remove"}, nil},
		{"too many fields", "log:\n  fields: [metadata.a, metadata.b, metadata.c, metadata.d, metadata.e, metadata.f, metadata.g, metadata.h, metadata.i, metadata.j, metadata.k, metadata.l, metadata.m, metadata.n, metadata.o, metadata.p, host]", []string{"proxy.yaml:2: log.fields: … 17 … 16"}, nil},
		{"a field that is a first message", "log:\n  fields: [metadata.x-login]\nroutes:\n- {name: a, backend: default, message: {method: a.B/C, path: /ws, first_message: x-login}}", []string{"proxy.yaml:2: log.fields: … metadata.x-login … proxy.yaml:4: routes[0].message.first_message … remove"}, nil},
		{"a field that is a secret", "log:\n  fields: [host, metadata.cookie]", []string{"proxy.yaml:2: log.fields: … metadata.cookie … secret … remove"}, nil},
		{"sizes that can't count", "limits:\n  methods:\n  - {pattern: a.B/*, header_bytes: 1MiB}\nlisten:\n- address: :80\n  trusted_proxies: [10.0.0.1]\n  limits: {header_bytes: 1MiB, calls_per_connection: 101, message_bytes: 3GiB}", []string{
			"proxy.yaml:7: listen[0].limits.message_bytes: … 2GiB … 0",
		}, []string{
			"proxy.yaml:3: limits.methods[0].header_bytes: … limits.header_bytes",
			"proxy.yaml:7: listen[0].limits.header_bytes: … limits.header_bytes",
			"proxy.yaml:7: listen[0].limits.calls_per_connection: … limits.calls_per_connection",
		}},
		{"limits that are tried out", "limits: {enforce: false}", nil, []string{
			"proxy.yaml:1: limits.enforce: … limits … true",
		}},
		{"one port for two", "health: {listen: 127.0.0.1:8080}", []string{
			"proxy.yaml:1: health.listen: … port … listen … --health-listen off",
		}, nil},
		{"the admin address on the port of clients", "listen: localhost:9902\nadmin: {listen: localhost:9902}", []string{
			"proxy.yaml:2: admin.listen: … listen … --admin off",
		}, nil},
		{"the admin address on the port of health checks", "admin: {listen: 127.0.0.1:9901}", []string{
			"proxy.yaml:1: admin.listen: … health.listen … --admin off",
		}, nil},
		{"the admin address on the port of the redirect", "tls: {self_signed: true, http_listen: 127.0.0.1:9902}\nadmin: {listen: 127.0.0.1:9902}", []string{
			"proxy.yaml:2: admin.listen: … tls.http_listen … --admin off",
		}, nil},
		{"an admin address for other hosts", "admin: {listen: ':9902'}", []string{
			"proxy.yaml:1: admin.listen: … other hosts … admin.tls.cert and admin.tls.key … admin.hosts … admin.token … openssl … \"127.0.0.1:9902\" … unix:/run/culvert/admin.sock … --admin",
		}, nil},
		{"an admin address by name, without a key", "admin: {listen: 'a.example:9902', hosts: [a.example], tls: {cert: a.pem}, token: ./token}", []string{
			"proxy.yaml:1: admin.listen: … other hosts … admin.tls.cert and admin.tls.key … \"127.0.0.1:9902\"",
		}, nil},
		{"an admin address for other hosts, with all", "admin: {listen: '10.0.0.1:9902', hosts: [a.example], tls: {cert: a.pem, key: b.pem}, token: ./token}", nil, nil},
		{"the admin address with half of a pair", "admin: {tls: {cert: a.pem}}", []string{
			"proxy.yaml:1: admin.tls.cert: … private key: set admin.tls.key",
		}, nil},
		{"names of the admin address without a token", "admin: {hosts: [a.example]}", []string{
			"proxy.yaml:1: admin.hosts: … admin.token",
		}, nil},
		{"a token in place of its file", "admin: {token: 0123456789abcdef}", []string{
			"proxy.yaml:1: admin.token: looks like the token itself, … path, such as /etc/culvert/admin.token",
		}, nil},
		{"keys that an admin socket doesn't need", "admin:\n  listen: unix:/run/a\n  hosts: [a.example]\n  token: ./t\n  tls: {cert: a.pem, key: b.pem}", []string{
			"proxy.yaml:5: admin.tls.cert: … unix socket … --admin",
			"proxy.yaml:3: admin.hosts: … unix socket",
			"proxy.yaml:4: admin.token: … unix socket",
		}, nil},
		{"keys of an admin address that is off", "admin: {listen: 'off', hosts: [a.example], tls: {cert: a.pem}}", nil, nil},
		{"one name for clients and the admin address", "hosts: ['A.example:8443']\nadmin: {hosts: [a.example], token: ./t}", nil, []string{
			"proxy.yaml:2: admin.hosts: … cookie … own",
		}},
		{"the default admin address on the port of clients", "listen: 127.0.0.1:9902", nil, nil},
		{"a spread beyond the drain", "drain_timeout: 3s\ndrain_spread: 4s", []string{
			"proxy.yaml:2: drain_spread: … drain_timeout … --drain-timeout",
		}, nil},
		{"a spread over the whole drain", "drain_timeout: 3s\ndrain_spread: 3s", nil, nil},
		{"a drain shorter than the default spread", "drain_timeout: 1s", nil, nil},
		{"any port for two", "listen: 127.0.0.1:0\nhealth: {listen: 127.0.0.1:0}", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			loadSays(t, "proxy.yaml", c.file, c.errs, c.warnings)
		})
	}
}

func TestWhatTLSNeedsTurnsItOn(t *testing.T) {
	clearEnvironment(t)
	for _, flags := range []map[string]any{
		{"backend.tls.ca": "ca.pem"},
		{"backend.tls.server_name": "orders.internal"},
		{"backend.tls.cert": "c.pem", "backend.tls.key": "k.pem"},
	} {
		l, err := Load(Options{}, "", flags)
		if err != nil || !l.Backend.TLS.Enabled {
			t.Errorf("%v: TLS is %v, %v, want on", flags, l.Backend.TLS.Enabled, err)
		}
	}
}
