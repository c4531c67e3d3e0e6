package proxytls

import (
	"maps"
	"slices"
	"sync"

	"github.com/caddyserver/certmagic"
)

// A DNSProviderFunc makes the writer of TXT records at one DNS provider, from the
// settings of the configuration (tls.acme.dns_settings). Its error is reported with
// the key, and must not contain a setting's value, which may be a token.
type DNSProviderFunc func(settings map[string]string) (certmagic.DNSProvider, error)

var dnsProviders = struct {
	mu    sync.Mutex
	funcs map[string]DNSProviderFunc
}{funcs: map[string]DNSProviderFunc{}}

// RegisterDNSProvider registers a DNS provider under a name that the configuration
// can choose (tls.acme.dns_provider). culvert has none built in: to use one, build
// culvert with a file that registers it in init, as docs/guides/acme.md shows. Any
// of https://github.com/libdns is a [certmagic.DNSProvider]. It panics if the name
// is taken.
func RegisterDNSProvider(name string, f DNSProviderFunc) {
	dnsProviders.mu.Lock()
	defer dnsProviders.mu.Unlock()
	if _, taken := dnsProviders.funcs[name]; taken {
		panic("BUG: two providers of DNS are called " + name)
	}
	dnsProviders.funcs[name] = f
}

// DNSProviders returns the names of the providers in this build.
func DNSProviders() []string {
	dnsProviders.mu.Lock()
	defer dnsProviders.mu.Unlock()
	return slices.Sorted(maps.Keys(dnsProviders.funcs))
}

func dnsProvider(name string) DNSProviderFunc {
	dnsProviders.mu.Lock()
	defer dnsProviders.mu.Unlock()
	return dnsProviders.funcs[name]
}
