package config

import (
	"strings"
	"testing"
)

// TestDangers are what only the sum of keys tells, of listeners most of all.
func TestDangers(t *testing.T) {
	const plaintext = " … plaintext … tls … trusted_proxies … proxy_protocol … 127.0.0.1"
	const everywhere = ": … every address" + plaintext + " … tls: {enabled: false}"
	for _, c := range []struct {
		name, file     string
		errs, warnings []string
	}{
		{"plaintext on a public address", "listen: 203.0.113.7:8080", nil, []string{
			"p.yaml:1: listen: … public address" + plaintext,
		}},
		{"plaintext on a public address of IPv6", `listen: "[2001:db8::7]:8080"`, nil, []string{
			"p.yaml:1: listen: … public address" + plaintext,
		}},
		{"plaintext where browsers come", "listen:\n- 127.0.0.1:8080\n- address: :443", nil, []string{
			"p.yaml:3: listen[1].address: … public address" + plaintext,
		}},
		{"plaintext on every address", "listen: [':8080', '0.0.0.0:8081', '[::]:8082', '[::ffff:0.0.0.0]:8085', {address: ':8083', tls: {enabled: false}}, {address: '0.0.0.0:8084', trusted_proxies: [10.0.0.1]}]", nil, []string{
			"p.yaml:1: listen[0].address" + everywhere, "p.yaml:1: listen[1].address" + everywhere, "p.yaml:1: listen[2].address" + everywhere, "p.yaml:1: listen[3].address" + everywhere,
		}},
		{"plaintext on every address of one listener", "listen: :8080", nil, []string{"p.yaml:1: listen" + everywhere}},
		{"plaintext on addresses of the inside", "listen: ['10.1.2.3:80', '[fd00::1]:80', '100.64.0.1:80', 'localhost:80', '[::1]:80', 'unix:/run/x']", nil, nil},
		{"plaintext behind a proxy", "listen: [{address: ':80', trusted_proxies: [203.0.113.9]}]", nil, nil},
		{"plaintext behind a proxy of all", "listen: ':80'\ntrusted_proxies: [203.0.113.9]", nil, nil},
		{"plaintext beside TLS", "tls: {cert: /c, key: /k}\nlisten:\n- :8443\n- {address: 10.1.2.3:8080, tls: {enabled: false}}\n- {address: 127.0.0.1:8081, tls: {enabled: false}}\n- {address: unix:/run/x, tls: {enabled: false}}", nil, []string{
			"p.yaml:4: listen[1].address: … other listeners" + plaintext,
		}},
		{"TLS everywhere", "tls: {cert: /c, key: /k}\nlisten: [':443', '203.0.113.7:8443']", nil, nil},

		{"a CA that can't come", "tls: {acme: {domains: [a.example.com], storage: /s}}\nlisten: ['127.0.0.1:443', {address: ':8443', tls: {cert: /c, key: /k}}]", nil, []string{
			"p.yaml:1: tls.acme.domains: … :443 … tls.http_listen … :80 … tls.acme.dns_provider",
		}},
		{"a CA that can come", "tls: {acme: {domains: [a.example.com], storage: /s}, http_listen: ':80'}\nlisten: 127.0.0.1:443", nil, nil},

		{"a socket where everybody is believed", "trusted_proxies: [127.0.0.0/8]\nlisten:\n- {address: unix:/run/a, mode: '0660'}\n- {address: unix:/run/b, mode: '0666', trusted_proxies: [10.0.0.1]}\n- {address: unix:/run/c, mode: '0666'}", nil, []string{
			`p.yaml:5: listen[2].mode: … 127.0.0.1 … "0660" … trusted_proxies … proxy_protocol`,
		}},

		{"pages of strangers", "allow_origins:\n- https://app.example.com\n- '~https://app\\.example\\.com.*'", nil, []string{
			`p.yaml:1: allow_origins: … https://app.example.com.culvertforeign.com … domain … \.`,
		}},

		{"a development certificate for the world", "tls: {self_signed: true}\nlisten: [':443', '127.0.0.1:8443']", nil, []string{
			"p.yaml:1: tls.self_signed: … development … tls.cert … tls.acme … 127.0.0.1",
		}},
		{"a development certificate at home", "tls: {self_signed: true}\nlisten: ':8443'", nil, nil},

		{"half of everybody is trusted", "trusted_proxies: [0.0.0.0/1, 128.0.0.0/1]", nil, []string{
			"p.yaml:1: trusted_proxies: … internet … addresses",
		}},
		{"everybody of IPv6 is trusted", `trusted_proxies: [10.0.0.0/8, "::/0"]`, nil, []string{
			"p.yaml:1: trusted_proxies: … everybody … addresses",
		}},
		{"much of IPv6 is trusted", `trusted_proxies: ["2000::/3"]`, nil, []string{
			"p.yaml:1: trusted_proxies: … internet … addresses",
		}},
		{"private networks are trusted", `trusted_proxies: [10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, "fc00::/7", "2600:1f00::/24"]`, nil, nil},
		{"everybody may write a PROXY header", "proxy_protocol: [0.0.0.0/0]\nlisten: [':80', {address: ':81', proxy_protocol: ['::/0']}]", nil, []string{
			"p.yaml:1: proxy_protocol: … everybody … addresses",
			"p.yaml:2: listen[1].proxy_protocol: … everybody … addresses",
		}},
		{"a listener trusts everybody", "listen:\n- 127.0.0.1:8080\n- address: :8081\n  trusted_proxies: [0.0.0.0/0]", nil, []string{
			"p.yaml:4: listen[1].trusted_proxies: … everybody … addresses",
		}},

		{"details beyond one of the listeners", "errors: detailed\nlisten: ['10.1.2.3:8080', '127.0.0.1:8081']", nil, []string{
			"p.yaml:1: errors: detailed … concise",
		}},
		{"details on this host", "errors: detailed\nlisten: ['unix:/run/x', '127.0.0.1:8081']", nil, nil},

		{"no listener", "listen: []", []string{`p.yaml:1: listen: … ":8080"`}, nil},
		{"an address twice", "trusted_proxies: [10.0.0.1]\nlisten: [':8080', '127.0.0.1:8081', '127.0.0.1:8080', ':8081', 'unix:/a', 'unix:///a', ':0', ':0']", []string{
			"p.yaml:2: listen[2].address: … listen[0]",
			"p.yaml:2: listen[3].address: … listen[1]",
			"p.yaml:2: listen[5].address: … listen[4]",
		}, nil},
		{"a name twice", "listen:\n- {address: '127.0.0.1:1', name: a}\n- {address: '127.0.0.1:2', name: b}\n- {address: '127.0.0.1:3', name: a}", []string{
			"p.yaml:4: listen[2].name: … listen[0]",
		}, nil},
		{"a port's mode", "listen: [{address: '127.0.0.1:8080', mode: '0660'}]", []string{
			"p.yaml:1: listen[0].mode: … unix sockets … remove",
		}, nil},
		{"the backend is a listener", "backend: {address: localhost:8081}\nlisten: ['127.0.0.1:8080', '127.0.0.1:8081']", []string{
			"p.yaml:1: backend.address: … port … --listen",
		}, nil},
		{"health checks on a listener's port", "health: {listen: ':8081'}\nlisten: ['127.0.0.1:8080', '127.0.0.1:8081']", []string{
			"p.yaml:1: health.listen: … port … listen … --health-listen off",
		}, nil},

		{"TLS without a certificate", "listen: [{address: ':1', tls: {enabled: true}}]", []string{
			"p.yaml:1: listen[0].tls.enabled: … cert … key … tls.cert … tls.key",
		}, nil},
		{"a certificate without TLS", "listen:\n- {address: ':1', tls: {enabled: false, cert: /c, key: /k}}\n- 127.0.0.1:2", []string{
			"p.yaml:2: listen[0].tls.enabled: … TLS … remove",
		}, nil},
		{"a listener's certificate alone", "listen: [{address: ':1', tls: {cert: /c}}]", []string{
			"p.yaml:1: listen[0].tls.cert: … listen[0].tls.key",
		}, nil},
		{"a listener's two certificates", "listen: [{address: ':1', tls: {cert: /c, key: /k, self_signed: true}}]", []string{
			"p.yaml:1: listen[0].tls.self_signed: … p.yaml:1: listen[0].tls.cert … remove",
		}, nil},
		{"a listener that asks by nobody", "listen: [{address: ':1', tls: {cert: /c, key: /k, client_auth: require}}]", []string{
			"p.yaml:1: listen[0].tls.client_auth: … listen[0].tls.client_ca",
		}, nil},
		{"a listener that doesn't ask", "tls: {cert: /c, key: /k}\nlisten: [{address: ':1', tls: {client_ca: /a, client_auth: none}}]", []string{
			"p.yaml:2: listen[0].tls.client_ca: … listen[0].tls.client_auth … remove",
		}, nil},
		{"a certificate that doesn't ask", "tls: {certificates: [{cert: /c, key: /k}, {cert: /d, key: /l, client_ca: /a, client_auth: none}]}", []string{
			"p.yaml:1: tls.certificates[1].client_ca: … tls.certificates[1].client_auth … remove",
		}, nil},
		{"lists that a listener doesn't take", "tls: {cert: /c, key: /k, client_ca: /a, crls: [/r]}\nlisten: [':1', {address: ':2', tls: {client_ca: /b}}]", []string{
			"p.yaml:2: listen[1].tls.client_ca: … tls.crls … client_ca … listen[1].tls.crls … []",
		}, nil},
		{"no lists for a listener", "tls: {cert: /c, key: /k, client_ca: /a, crls: [/r]}\nlisten: [':1', {address: ':2', tls: {client_ca: /b, crls: []}}]", nil, nil},
		{"a listener's clients without TLS", "listen: [{address: '127.0.0.1:1', tls: {client_ca: /a}}]", []string{
			"p.yaml:1: listen[0].tls: … cert … key … tls.cert … tls.key",
		}, nil},
		{"one listener asks nobody", "tls: {cert: /c, key: /k, client_ca: /a}\nlisten: [':1', {address: ':2', tls: {client_auth: none}}]", nil, nil},
		{"a CA for a listener's certificate", "tls: {client_ca: /a}\nlisten: [{address: ':1', tls: {cert: /c, key: /k}}]", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			loadSays(t, "p.yaml", c.file, c.errs, c.warnings)
		})
	}
}

// TestPlaintextEverywhereByName checks that the warning names the flag or the
// variable that set the address, or the default.
func TestPlaintextEverywhereByName(t *testing.T) {
	for _, c := range []struct {
		variable string
		flags    map[string]any
		want     string
	}{
		{"", nil, "listen: … default … :8080 … plaintext … every address … tls … trusted_proxies … proxy_protocol … --listen 127.0.0.1:8080"},
		{":8080", nil, "CULVERT_LISTEN: … plaintext … every address"},
		{"", map[string]any{"listen": ":8080"}, "--listen: … plaintext … every address"},
	} {
		clearEnvironment(t)
		if c.variable != "" {
			t.Setenv("CULVERT_LISTEN", c.variable)
		}
		l, err := Load(Options{}, "", c.flags)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(l.Warnings, "\n"); !says(got, c.want) {
			t.Errorf("CULVERT_LISTEN=%s, flags %v: warned of %q, want %q", c.variable, c.flags, got, c.want)
		}
	}
}

// TestDefaultListenerIsWarnedOf unless it has TLS or proxies in front of it.
func TestDefaultListenerIsWarnedOf(t *testing.T) {
	for file, want := range map[string]bool{
		"log: {level: info}":                                  true,
		"tls: {self_signed: true}":                            false,
		"trusted_proxies: [10.0.0.9]":                         false,
		"proxy_protocol: [10.0.0.9]":                          false,
		"listen: [{address: ':8080', tls: {enabled: false}}]": false,
	} {
		clearEnvironment(t)
		l := loadText(t, file)
		if got := len(l.Warnings) > len(withoutDefault(l.Warnings)); got != want {
			t.Errorf("%s: warned of the default listener: %v, want %v: %q", file, got, want, l.Warnings)
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
	l, err := Load(Options{}, "p.yaml", nil)
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
		if got := l.Place(key); got != want {
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
		"":     ` … octal … "0660"`,
		"rw":   ` … octal … "0660"`,
		"0680": ` … octal … "0660"`,
		"4600": ` … octal … "0660"`,
		"0060": ` … owner … "0600"`,
	} {
		got := ""
		if _, err := parseMode(text); err != nil {
			got = err.Error()
		}
		if !says(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := (Listener{}).SocketMode(); got != 0o600 {
		t.Errorf("a socket of no mode has %v, want 0600", got)
	}
}
