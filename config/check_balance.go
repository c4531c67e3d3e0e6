package config

import (
	"net"
	"net/netip"
	"strings"
)

// checkBalance warns of a policy for each backend that has one address.
func checkBalance(l *Loaded) []error {
	for _, b := range l.BackendSections() {
		if l.IsSet(b.Section+".balance") && b.Address != "" && (b.UseProxy || hasOneAddress(b.Address)) {
			l.warn(b.Section+".balance", "has no effect: culvert sees one address of this backend. Remove it, or set address to a name that resolves to several addresses, without use_proxy")
		}
	}
	return nil
}

// checkHealthCheck warns of the name of a service that isn't asked for.
func checkHealthCheck(l *Loaded) []error {
	for _, b := range l.BackendSections() {
		if b.HealthCheck.Service != "" && !b.HealthCheck.Enabled {
			l.warn(b.Section+".health_check.service", "has no effect: set "+b.Section+".health_check.enabled to true")
		}
	}
	return nil
}

// hasOneAddress reports whether a target is a socket or an IP address, and not a name.
func hasOneAddress(target string) bool {
	if strings.HasPrefix(target, "unix:") {
		return true
	}
	if rest, ok := strings.CutPrefix(target, "dns:"); ok {
		target = rest[strings.LastIndexByte(rest, '/')+1:]
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}
