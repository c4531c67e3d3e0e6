package config

import (
	"slices"
	"strings"
	"testing"
)

// TestDangers are what only the sum of keys tells, of listeners most of all.
func TestDangers(t *testing.T) {
	const plaintext = ": give it a certificate (tls), name the proxies that bring TLS in front of it (trusted_proxies, proxy_protocol), or listen on 127.0.0.1"
	const everywhere = ": speaks plaintext on every address of this host, public ones too if it has any" + plaintext +
		"; if only what brings TLS comes here, say so: tls: {enabled: false} at the listener"
	for _, c := range []struct {
		name, file     string
		errs, warnings []string
	}{
		{"plaintext on a public address", "listen: 203.0.113.7:8080", nil, []string{
			"p.yaml:1: listen: speaks plaintext on a public address, where anybody on the way can read and change it" + plaintext,
		}},
		{"plaintext on a public address of IPv6", `listen: "[2001:db8::7]:8080"`, nil, []string{
			"p.yaml:1: listen: speaks plaintext on a public address, where anybody on the way can read and change it" + plaintext,
		}},
		{"plaintext where browsers come", "listen:\n- 127.0.0.1:8080\n- address: :443", nil, []string{
			"p.yaml:3: listen[1].address: speaks plaintext on a public address, where anybody on the way can read and change it" + plaintext,
		}},
		{"plaintext on every address", "listen: [':8080', '0.0.0.0:8081', '[::]:8082', {address: ':8083', tls: {enabled: false}}, {address: '0.0.0.0:8084', trusted_proxies: [10.0.0.1]}]", nil, []string{
			"p.yaml:1: listen[0].address" + everywhere, "p.yaml:1: listen[1].address" + everywhere, "p.yaml:1: listen[2].address" + everywhere,
		}},
		{"plaintext on every address of one listener", "listen: :8080", nil, []string{"p.yaml:1: listen" + everywhere}},
		{"plaintext on addresses of the inside", "listen: ['10.1.2.3:80', '[fd00::1]:80', '100.64.0.1:80', 'localhost:80', '[::1]:80', 'unix:/run/x']", nil, nil},
		{"plaintext on the default address", "log: {level: info}", nil, nil},
		{"plaintext behind a proxy", "listen: [{address: ':80', trusted_proxies: [203.0.113.9]}]", nil, nil},
		{"plaintext behind a proxy of all", "listen: ':80'\ntrusted_proxies: [203.0.113.9]", nil, nil},
		{"plaintext beside TLS", "tls: {cert: /c, key: /k}\nlisten:\n- :8443\n- {address: 10.1.2.3:8080, tls: {enabled: false}}\n- {address: 127.0.0.1:8081, tls: {enabled: false}}\n- {address: unix:/run/x, tls: {enabled: false}}", nil, []string{
			"p.yaml:4: listen[1].address: speaks plaintext beyond this host, while other listeners speak TLS" + plaintext,
		}},
		{"TLS everywhere", "tls: {cert: /c, key: /k}\nlisten: [':443', '203.0.113.7:8443']", nil, nil},

		{"a CA that can't come", "tls: {acme: {domains: [a.example.com], storage: /s}}\nlisten: ['127.0.0.1:443', {address: ':8443', tls: {cert: /c, key: /k}}]", nil, []string{
			"p.yaml:1: tls.acme.domains: has a CA ask on port 443 or 80, and culvert listens with its certificates on this host alone: listen on :443, set tls.http_listen to :80, forward one of them here, or use a tls.acme.dns_provider",
		}},
		{"a CA that can come", "tls: {acme: {domains: [a.example.com], storage: /s}, http_listen: ':80'}\nlisten: 127.0.0.1:443", nil, nil},

		{"a socket where everybody is believed", "trusted_proxies: [127.0.0.0/8]\nlisten:\n- {address: unix:/run/a, mode: '0660'}\n- {address: unix:/run/b, mode: '0666', trusted_proxies: [10.0.0.1]}\n- {address: unix:/run/c, mode: '0666'}", nil, []string{
			`p.yaml:5: listen[2].mode: lets everybody on this host say where clients come from, since a unix socket's clients count as 127.0.0.1, which is trusted: write "0660", or take it out of trusted_proxies and proxy_protocol`,
		}},

		{"pages of strangers", "allow_origins:\n- https://app.example.com\n- '~https://app\\.example\\.com.*'", nil, []string{
			`p.yaml:1: allow_origins: lets https://app.example.com.culvertforeign.com in, too, which anybody can register: write the domain that is yours as it is, and in an expression \. before it and nothing but a port behind it`,
		}},

		{"a development certificate for the world", "tls: {self_signed: true}\nlisten: [':443', '127.0.0.1:8443']", nil, []string{
			"p.yaml:1: tls.self_signed: shows the development certificate on a public address, where nobody trusts it: give it a real one (tls.cert, tls.acme), or listen on 127.0.0.1",
		}},
		{"a development certificate at home", "tls: {self_signed: true}\nlisten: ':8443'", nil, nil},

		{"half of everybody is trusted", "trusted_proxies: [0.0.0.0/1, 128.0.0.0/1]", nil, []string{
			"p.yaml:1: trusted_proxies: believes whole parts of the internet about where they come from: list the proxies' own addresses",
		}},
		{"everybody of IPv6 is trusted", `trusted_proxies: [10.0.0.0/8, "::/0"]`, nil, []string{
			"p.yaml:1: trusted_proxies: believes everybody about where they come from: list the proxies' own addresses",
		}},
		{"much of IPv6 is trusted", `trusted_proxies: ["2000::/3"]`, nil, []string{
			"p.yaml:1: trusted_proxies: believes whole parts of the internet about where they come from: list the proxies' own addresses",
		}},
		{"private networks are trusted", `trusted_proxies: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, "fc00::/7", "2600:1f00::/24"]`, nil, nil},
		{"everybody may write a PROXY header", "proxy_protocol: [0.0.0.0/0]\nlisten: [':80', {address: ':81', proxy_protocol: ['::/0']}]", nil, []string{
			"p.yaml:1: proxy_protocol: believes everybody about where they come from: list the proxies' own addresses",
			"p.yaml:2: listen[1].proxy_protocol: believes everybody about where they come from: list the proxies' own addresses",
		}},
		{"a listener trusts everybody", "listen:\n- 127.0.0.1:8080\n- address: :8081\n  trusted_proxies: [0.0.0.0/0]", nil, []string{
			"p.yaml:4: listen[1].trusted_proxies: believes everybody about where they come from: list the proxies' own addresses",
		}},

		{"details beyond one of the listeners", "errors: detailed\nlisten: ['10.1.2.3:8080', '127.0.0.1:8081']", nil, []string{
			"p.yaml:1: errors: detailed tells addresses of the inside to every client: use concise beyond this host",
		}},
		{"details on this host", "errors: detailed\nlisten: ['unix:/run/x', '127.0.0.1:8081']", nil, nil},

		{"no listener", "listen: []", []string{`p.yaml:1: listen: names no address: write ":8080", or leave it out`}, nil},
		{"an address twice", "trusted_proxies: [10.0.0.1]\nlisten: [':8080', '127.0.0.1:8081', '127.0.0.1:8080', ':8081', 'unix:/a', 'unix:///a', ':0', ':0']", []string{
			"p.yaml:2: listen[2].address: is taken by listen[0]: one listener has an address",
			"p.yaml:2: listen[3].address: is taken by listen[1]: one listener has an address",
			"p.yaml:2: listen[5].address: is taken by listen[4]: one listener has an address",
		}, nil},
		{"a name twice", "listen:\n- {address: '127.0.0.1:1', name: a}\n- {address: '127.0.0.1:2', name: b}\n- {address: '127.0.0.1:3', name: a}", []string{
			"p.yaml:4: listen[2].name: is that of listen[0]: the log couldn't tell them apart",
		}, nil},
		{"a port's mode", "listen: [{address: '127.0.0.1:8080', mode: '0660'}]", []string{
			"p.yaml:1: listen[0].mode: is for unix sockets, and address is a port: remove it",
		}, nil},
		{"the backend is a listener", "backend: {address: localhost:8081}\nlisten: ['127.0.0.1:8080', '127.0.0.1:8081']", []string{
			"p.yaml:1: backend.address: is the port that culvert itself listens on: change it, or listen (--listen)",
		}, nil},
		{"health checks on a listener's port", "health: {listen: ':8081'}\nlisten: ['127.0.0.1:8080', '127.0.0.1:8081']", []string{
			"p.yaml:1: health.listen: is the port of listen: give it one of its own, or turn it off (--health-listen off)",
		}, nil},

		{"TLS without a certificate", "listen: [{address: ':1', tls: {enabled: true}}]", []string{
			"p.yaml:1: listen[0].tls.enabled: turns TLS on without a certificate: set cert and key beside it, or tls.cert and tls.key for all listeners",
		}, nil},
		{"a certificate without TLS", "listen:\n- {address: ':1', tls: {enabled: false, cert: /c, key: /k}}\n- 127.0.0.1:2", []string{
			"p.yaml:2: listen[0].tls.enabled: turns TLS off, which has keys beside it: remove one of them",
		}, nil},
		{"a listener's certificate alone", "listen: [{address: ':1', tls: {cert: /c}}]", []string{
			"p.yaml:1: listen[0].tls.cert: is a certificate without its private key: set listen[0].tls.key",
		}, nil},
		{"a listener's two certificates", "listen: [{address: ':1', tls: {cert: /c, key: /k, self_signed: true}}]", []string{
			"p.yaml:1: listen[0].tls.self_signed: makes a certificate, but p.yaml:1: listen[0].tls.cert has one: remove one of them",
		}, nil},
		{"a listener that asks by nobody", "listen: [{address: ':1', tls: {cert: /c, key: /k, client_auth: require}}]", []string{
			"p.yaml:1: listen[0].tls.client_auth: asks clients for a certificate, but nothing says who may have signed it: set listen[0].tls.client_ca",
		}, nil},
		{"a listener that doesn't ask", "tls: {cert: /c, key: /k}\nlisten: [{address: ':1', tls: {client_ca: /a, client_auth: none}}]", []string{
			"p.yaml:2: listen[0].tls.client_ca: says who may have signed clients' certificates, but listen[0].tls.client_auth asks for none: remove one of them",
		}, nil},
		{"a certificate that doesn't ask", "tls: {certificates: [{cert: /c, key: /k}, {cert: /d, key: /l, client_ca: /a, client_auth: none}]}", []string{
			"p.yaml:1: tls.certificates[1].client_ca: says who may have signed clients' certificates, but tls.certificates[1].client_auth asks for none: remove one of them",
		}, nil},
		{"lists that a listener doesn't take", "tls: {cert: /c, key: /k, client_ca: /a, crls: [/r]}\nlisten: [':1', {address: ':2', tls: {client_ca: /b}}]", []string{
			"p.yaml:2: listen[1].tls.client_ca: has no revocation lists, since the listener takes none of tls.crls with a client_ca of its own: set listen[1].tls.crls, to [] for none",
		}, nil},
		{"no lists for a listener", "tls: {cert: /c, key: /k, client_ca: /a, crls: [/r]}\nlisten: [':1', {address: ':2', tls: {client_ca: /b, crls: []}}]", nil, nil},
		{"a listener's clients without TLS", "listen: [{address: '127.0.0.1:1', tls: {client_ca: /a}}]", []string{
			"p.yaml:1: listen[0].tls: has no effect without a certificate: set cert and key there, or tls.cert and tls.key for all listeners",
		}, nil},
		{"one listener asks nobody", "tls: {cert: /c, key: /k, client_ca: /a}\nlisten: [':1', {address: ':2', tls: {client_auth: none}}]", nil, nil},
		{"a CA for a listener's certificate", "tls: {client_ca: /a}\nlisten: [{address: ':1', tls: {cert: /c, key: /k}}]", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearEnvironment(t)
			t.Chdir(t.TempDir())
			writeHere(t, "p.yaml", c.file)
			l, err := Load("p.yaml", nil)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !slices.Equal(got, c.errs) {
				t.Errorf("errors\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.errs, "\n"))
			}
			if !slices.Equal(l.Warnings, c.warnings) {
				t.Errorf("warnings\n%s\nwant\n%s", strings.Join(l.Warnings, "\n"), strings.Join(c.warnings, "\n"))
			}
		})
	}
}

// TestPlaintextEverywhereByName checks that the warning names the flag or the
// variable that set the address.
func TestPlaintextEverywhereByName(t *testing.T) {
	for _, c := range []struct {
		variable string
		flags    map[string]any
		want     string
	}{
		{"", nil, ""},
		{":8080", nil, "CULVERT_LISTEN: speaks plaintext on every address of this host"},
		{"", map[string]any{"listen": ":8080"}, "--listen: speaks plaintext on every address of this host"},
	} {
		clearEnvironment(t)
		if c.variable != "" {
			t.Setenv("CULVERT_LISTEN", c.variable)
		}
		l, err := Load("", c.flags)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(l.Warnings, "\n"); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("CULVERT_LISTEN=%s, flags %v: warned of %q, want %q", c.variable, c.flags, got, c.want)
		}
	}
}

// What a listener inherits is said to stand where it does.
func TestPlacesOfWhatIsInherited(t *testing.T) {
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	writeHere(t, "p.yaml", `tls:
  cert: /c
  key: /k
  certificates:
  - {cert: /d, key: /e}
  client_ca: /a
  acme: {domains: [a.example.com], storage: /s}
listen:
- :1
- address: :2
  tls: {cert: /f, key: /g}
`)
	l, err := Load("p.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"listen[0].tls.cert":                 "p.yaml:2: tls.cert",
		"listen[0].tls.certificates[0].cert": "p.yaml:5: tls.certificates[0].cert",
		"listen[1].tls.cert":                 "p.yaml:11: listen[1].tls.cert",
		"listen[1].tls.client_ca":            "p.yaml:6: tls.client_ca",
		"listen[1].tls.certificates":         "p.yaml:10: listen[1].tls.certificates",
		"listen[1].tls.min_version":          "tls.min_version",
	} {
		if got := l.place(key); got != want {
			t.Errorf("%s is said to stand in %q, want %q", key, got, want)
		}
	}
	if l.ListenerTLS(1).ACME.Enabled() || !l.ListenerTLS(0).ACME.Enabled() {
		t.Error("a listener with its own certificate has them fetched, or one without doesn't")
	}
	if got := l.Listen[1].TLS; got.Cert != "/f" || len(got.Certificates) != 0 || got.ClientCA != "/a" || !got.Enabled {
		t.Errorf("listen[1].tls is %+v, want its own certificate alone, and client_ca", got)
	}
}

func TestModesOfSockets(t *testing.T) {
	for text, want := range map[string]string{
		"0600": "", "660": "", "0777": "",
		"":     `is no mode: write it in octal, as "0660"`,
		"rw":   `is no mode: write it in octal, as "0660"`,
		"0680": `is no mode: write it in octal, as "0660"`,
		"4600": `is no mode: write it in octal, as "0660"`,
		"0060": `keeps its owner out: write "0600", or more`,
	} {
		got := ""
		if _, err := parseMode(text); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := (Listener{}).SocketMode(); got != 0o600 {
		t.Errorf("a socket of no mode has %v, want 0600", got)
	}
}
