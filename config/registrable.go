package config

import (
	"net"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// isPublicSuffix reports whether anyone can register a name below the domain:
// "com", "co.uk", "github.io". A domain that no registry has ("internal",
// "test") is private. https://publicsuffix.org
func isPublicSuffix(domain string) bool {
	suffix, ofRegistry := publicsuffix.PublicSuffix(domain)
	return suffix == domain && (ofRegistry || strings.Contains(suffix, "."))
}

// registrable returns the domain that the owner of the host registered, or ""
// if none was necessary.
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
