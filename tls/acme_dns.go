package proxytls

import (
	"maps"
	"slices"
	"sync"

	"github.com/caddyserver/certmagic"
)

// A DNSProviderFunc makes what writes TXT records at one provider of DNS, from
// the settings of the configuration (tls.acme.dns_settings). Its error is said
// with the key; a setting's value, which may be a token, isn't to be in it.
type DNSProviderFunc func(settings map[string]string) (certmagic.DNSProvider, error)

var dnsProviders struct {
	mu    sync.Mutex
	funcs map[string]DNSProviderFunc
}

// RegisterDNSProvider gives a provider of DNS a name by which the
// configuration can choose it (tls.acme.dns_provider). culvert has none built
// in: who needs one builds culvert with a file that registers it in init, as
// docs/guides/acme.md shows. Any of https://github.com/libdns is a
// [certmagic.DNSProvider]. It panics if the name is taken.
func RegisterDNSProvider(name string, f DNSProviderFunc) {
	dnsProviders.mu.Lock()
	defer dnsProviders.mu.Unlock()
	if dnsProviders.funcs == nil {
		dnsProviders.funcs = map[string]DNSProviderFunc{}
	}
	if _, taken := dnsProviders.funcs[name]; taken {
		panic("BUG: two providers of DNS are called " + name)
	}
	dnsProviders.funcs[name] = f
}

// DNSProviders returns the names of those that this build has.
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
