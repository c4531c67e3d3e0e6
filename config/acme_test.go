package config

import (
	"reflect"
	"slices"
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
	l, err := Load("proxy.yaml", nil)
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
			"proxy.yaml:3: tls.acme.domains: has certificates fetched, but tls.acme.storage is missing: name a folder that outlives culvert; without it every start would fetch anew, until the CA refuses",
		}},
		{"patterns without a folder", "on_demand: [\"*.example.com\"]", []string{
			"proxy.yaml:3: tls.acme.on_demand: has certificates fetched, but tls.acme.storage is missing: name a folder that outlives culvert; without it every start would fetch anew, until the CA refuses",
		}},
		{"nothing to fetch", "storage: /acme\n    email: ops@example.com\n    eab: {hmac_key: c2VjcmV0}", []string{
			"proxy.yaml:3: tls.acme.storage: has no effect without tls.acme.domains: list the names that certificates are fetched for",
			"proxy.yaml:4: tls.acme.email: has no effect without tls.acme.domains: list the names that certificates are fetched for",
			"proxy.yaml:5: tls.acme.eab.hmac_key: has no effect without tls.acme.domains: list the names that certificates are fetched for",
		}},
		{"a challenge without its port", "domains: [grpc.example.com]\n    storage: /acme\n    challenges: [http-01]", []string{
			`proxy.yaml:5: tls.acme.challenges: http-01 is answered in plaintext: set tls.http_listen, as ":80"`,
		}},
		{"a challenge without its provider", "domains: [grpc.example.com]\n    storage: /acme\n    challenges: [dns-01]", []string{
			"proxy.yaml:5: tls.acme.challenges: dns-01 takes a tls.acme.dns_provider: docs/tls.md#by-dns shows how",
		}},
		{"settings of nobody", "domains: [grpc.example.com]\n    storage: /acme\n    dns_settings: [{name: token, value: s3cret}]\n    dns_resolvers: [\"192.0.2.53:53\"]", []string{
			"proxy.yaml:5: tls.acme.dns_settings: has no effect without tls.acme.dns_provider: name the provider",
			"proxy.yaml:6: tls.acme.dns_resolvers: has no effect without tls.acme.dns_provider: name the provider",
		}},
		{"for development, too", "domains: [grpc.example.com]\n    storage: /acme\n  self_signed: true", []string{
			"proxy.yaml:5: tls.self_signed: makes certificates for development, but proxy.yaml:3: tls.acme.domains fetches real ones: remove one of them",
		}},
		{"an address", "domains: [192.0.2.1]\n    storage: /acme", []string{
			`proxy.yaml:3: tls.acme.domains: "192.0.2.1" is an address: write a name, as grpc.example.com`,
		}},
		{"everybody", "on_demand: [\"*\"]\n    storage: /acme", []string{
			`proxy.yaml:3: tls.acme.on_demand: "*" is no domain: write a whole name, as grpc.example.com or *.example.com`,
		}},
		{"plaintext to the CA", "domains: [grpc.example.com]\n    storage: /acme\n    directory: http://ca.example.com/dir", []string{
			`proxy.yaml:5: tls.acme.directory: "http://ca.example.com/dir" is no URL with https: write https://ca.example.com/acme/acme/directory`,
		}},
		{"no address", "domains: [grpc.example.com]\n    storage: /acme\n    email: ops", []string{
			`proxy.yaml:5: tls.acme.email: "ops" is no address of e-mail: write ops@example.com`,
		}},
		{"no name server", "domains: [grpc.example.com]\n    storage: /acme\n    dns_provider: x\n    dns_resolvers: [192.0.2.53]", []string{
			`proxy.yaml:6: tls.acme.dns_resolvers: "192.0.2.53" is no address of a name server: write 192.0.2.53:53`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearEnvironment(t)
			t.Chdir(t.TempDir())
			writeHere(t, "proxy.yaml", "tls:\n  acme:\n    "+c.file+"\n")
			_, err := Load("proxy.yaml", nil)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if !slices.Equal(got, c.errs) {
				t.Errorf("errors\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.errs, "\n"))
			}
		})
	}
}
