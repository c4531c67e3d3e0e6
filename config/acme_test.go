package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestACMEIsRead(t *testing.T) {
	clearEnvironment(t)
	t.Chdir(t.TempDir())
	t.Setenv("TOKEN", "s3cret")
	writeHere(t, "eab.key", "aG1hYw\n")
	writeHere(t, "proxy.yaml", `
tls:
  http_listen: ":80"
  acme:
    domains: [grpc.example.com, "*.example.com"]
    on_demand: ["*.tenants.example.com"]
    email: ops@example.com
    directory: https://ca.example.com/dir
    ca_root: /etc/root.pem
    storage: /var/lib/acme
    challenges: [tls-alpn-01, http-01]
    eab:
      key_id: kid-1
      hmac_key: file:eab.key
    dns_provider: cloudflare
    dns_settings:
      - name: api_token
        value: ${TOKEN}
    dns_resolvers: ["192.0.2.53:53"]
`)
	l, err := Load(Options{}, "proxy.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := ACME{
		Domains: []string{"grpc.example.com", "*.example.com"}, OnDemand: []string{"*.tenants.example.com"},
		Email: "ops@example.com", Directory: "https://ca.example.com/dir", CARoot: "/etc/root.pem", Storage: "/var/lib/acme",
		Challenges: []string{"tls-alpn-01", "http-01"}, EAB: EAB{"kid-1", "aG1hYw"}, DNSProvider: "cloudflare",
		DNSSettings: []DNSSetting{{"api_token", "s3cret"}}, DNSResolvers: []string{"192.0.2.53:53"},
	}
	if !reflect.DeepEqual(l.TLS.ACME, want) {
		t.Errorf("got  %+v\nwant %+v", l.TLS.ACME, want)
	}
	if !l.TLS.Enabled() {
		t.Error("the port speaks plaintext")
	}
}

func TestContradictionsOfACME(t *testing.T) {
	for _, c := range []struct {
		name, file string
		errs       []string
	}{
		{"domains without a folder", "domains: [grpc.example.com]", []string{
			"proxy.yaml:3: tls.acme.domains: … tls.acme.storage",
		}},
		{"patterns without a folder", "on_demand: [\"*.example.com\"]", []string{
			"proxy.yaml:3: tls.acme.on_demand: … tls.acme.storage",
		}},
		{"nothing to fetch", "storage: /acme\n    email: ops@example.com\n    eab: {hmac_key: c2VjcmV0}", []string{
			"proxy.yaml:3: tls.acme.storage: … tls.acme.domains",
			"proxy.yaml:4: tls.acme.email: … tls.acme.domains",
			"proxy.yaml:5: tls.acme.eab.hmac_key: … tls.acme.domains",
		}},
		{"a challenge without its port", "domains: [grpc.example.com]\n    storage: /acme\n    challenges: [http-01]", []string{
			`proxy.yaml:5: tls.acme.challenges: http-01 … tls.http_listen … ":80"`,
		}},
		{"a challenge without its provider", "domains: [grpc.example.com]\n    storage: /acme\n    challenges: [dns-01]", []string{
			"proxy.yaml:5: tls.acme.challenges: dns-01 … tls.acme.dns_provider … docs/guides/acme.md#by-dns",
		}},
		{"settings of nobody", "domains: [grpc.example.com]\n    storage: /acme\n    dns_settings: [{name: token, value: s3cret}]\n    dns_resolvers: [\"192.0.2.53:53\"]", []string{
			"proxy.yaml:5: tls.acme.dns_settings: … tls.acme.dns_provider",
			"proxy.yaml:6: tls.acme.dns_resolvers: … tls.acme.dns_provider",
		}},
		{"for development, too", "domains: [grpc.example.com]\n    storage: /acme\n  self_signed: true", []string{
			"proxy.yaml:5: tls.self_signed: … proxy.yaml:3: tls.acme.domains … remove",
		}},
		{"an address", "domains: [192.0.2.1]\n    storage: /acme", []string{
			`proxy.yaml:3: tls.acme.domains: "192.0.2.1" … address … grpc.example.com`,
		}},
		{"everybody", "on_demand: [\"*\"]\n    storage: /acme", []string{
			`proxy.yaml:3: tls.acme.on_demand: "*" … domain … grpc.example.com … *.example.com`,
		}},
		{"plaintext to the CA", "domains: [grpc.example.com]\n    storage: /acme\n    directory: http://ca.example.com/dir", []string{
			`proxy.yaml:5: tls.acme.directory: "http://ca.example.com/dir" … URL … https://ca.example.com/acme/acme/directory`,
		}},
		{"no address", "domains: [grpc.example.com]\n    storage: /acme\n    email: ops", []string{
			`proxy.yaml:5: tls.acme.email: "ops" … ops@example.com`,
		}},
		{"no name server", "domains: [grpc.example.com]\n    storage: /acme\n    dns_provider: x\n    dns_resolvers: [192.0.2.53]", []string{
			`proxy.yaml:6: tls.acme.dns_resolvers: "192.0.2.53" … name server … 192.0.2.53:53`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearEnvironment(t)
			t.Chdir(t.TempDir())
			writeHere(t, "proxy.yaml", "tls:\n  acme:\n    "+c.file+"\n")
			_, err := Load(Options{}, "proxy.yaml", nil)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !sayAll(got, c.errs) {
				t.Errorf("errors\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.errs, "\n"))
			}
			for _, secret := range []string{"c2VjcmV0", "s3cret"} {
				if strings.Contains(strings.Join(got, "\n"), secret) {
					t.Errorf("a secret is shown: %s", strings.Join(got, "\n"))
				}
			}
		})
	}
}
