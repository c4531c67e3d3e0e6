package config

import (
	"net"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// isPublicSuffix holds for a domain below which anybody can have a name: "com",
// "co.uk", "github.io". One that no registry knows ("internal", "test") is the
// network's own. https://publicsuffix.org
func isPublicSuffix(domain string) bool {
	suffix, ofRegistry := publicsuffix.PublicSuffix(domain)
	return suffix == domain && (ofRegistry || strings.Contains(suffix, "."))
}

// registrable is the domain that whoever has the host had to register; "" if
// nobody had to.
func registrable(host string) string {
	for domain := host; domain != "" && net.ParseIP(host) == nil; {
		_, above, ok := strings.Cut(domain, ".")
		if !ok {
			return ""
		}
		if isPublicSuffix(above) {
			return domain
		}
		domain = above
	}
	return ""
}
