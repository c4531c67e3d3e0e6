package keys

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/config"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// loadACME loads a configuration with tls.acme as given.
func loadACME(t *testing.T, yaml string) *config.Loaded {
	t.Helper()
	cmdtest.ClearEnvironment(t)
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte("tls:\n  acme:\n    storage: /acme\n"+yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(config.Options{}, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func TestEveryKeyOfACMEArrives(t *testing.T) {
	loaded := loadACME(t, `
    domains: [grpc.example.com]
    on_demand: [shop.example.com]
    email: ops@example.com
    directory: https://ca.example.com/dir
    ca_root: /root.pem
    challenges: [tls-alpn-01]
    eab: {key_id: kid, hmac_key: aG1hYw}
    dns_provider: provider
    dns_settings: [{name: token, value: s3cret}, {name: zone, value: example.com}]
    dns_resolvers: ["192.0.2.53:53"]
`)
	got := acmeOptions(loaded)
	want := proxytls.ACMEOptions{
		Domains: []string{"grpc.example.com"}, OnDemand: []string{"shop.example.com"}, Email: "ops@example.com",
		Directory: "https://ca.example.com/dir", CARoot: "/root.pem", Storage: "/acme", Challenges: []string{"tls-alpn-01"},
		EABKeyID: "kid", EABHMACKey: "aG1hYw", DNSProvider: "provider",
		DNSSettings:  map[string]string{"token": "s3cret", "zone": "example.com"},
		DNSResolvers: []string{"192.0.2.53:53"}, ConfigKey: "tls.acme",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// A key that was added has to be in the file above.
	for _, k := range config.Keys() {
		name, found := strings.CutPrefix(k.Name, "tls.acme.")
		if !found {
			continue
		}
		section, field, nested := strings.Cut(name, ".")
		value := reflect.ValueOf(loaded.TLS.ACME).FieldByNameFunc(func(n string) bool { return keyName(n) == section })
		if nested {
			value = value.FieldByNameFunc(func(n string) bool { return keyName(n) == field })
		}
		if !value.IsValid() || value.IsZero() {
			t.Errorf("%s isn't looked at here", k.Name)
		}
	}
}

// keyName is what the file calls a field.
func keyName(field string) string {
	names := map[string]string{
		"OnDemand": "on_demand", "CARoot": "ca_root", "KeyID": "key_id", "HMACKey": "hmac_key",
		"DNSProvider": "dns_provider", "DNSSettings": "dns_settings", "DNSResolvers": "dns_resolvers",
	}
	if name, odd := names[field]; odd {
		return name
	}
	return strings.ToLower(field)
}

func TestChallengesAreThoseThatCanBeAnswered(t *testing.T) {
	for _, tt := range []struct {
		yaml string
		want []string
	}{
		{"    domains: [a.example.com]\n", []string{"tls-alpn-01"}},
		{"    domains: [a.example.com]\n  http_listen: ':80'\n", []string{"tls-alpn-01", "http-01"}},
		{"    domains: [a.example.com]\n    dns_provider: x\n  http_listen: ':80'\n", nil}, // DNS-01, as ACMEOptions has it
		{"    domains: [a.example.com]\n    challenges: [http-01]\n  http_listen: ':80'\n", []string{"http-01"}},
	} {
		if got := acmeOptions(loadACME(t, tt.yaml)).Challenges; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %v, want %v", tt.yaml, got, tt.want)
		}
	}
}
