package config

import (
	"net"
	"net/netip"
	"slices"
)

// The checks below find dangers for listeners: combinations of keys that are
// harmless by themselves.

// checkPlaintext warns of plaintext that clients reach without TLS. It assumes
// that proxies which the configuration names have TLS.
func checkPlaintext(l *Loaded) {
	for i, ln := range l.Listen {
		key := Entry("listen", i) + ".address"
		switch {
		case ln.TLS.Enabled || ln.Socket() != "" || len(ln.TrustedProxies)+len(ln.ProxyProtocol) > 0:
		case ln.isPublic():
			l.warn(key, "is plaintext on a public address, where anyone on the path can read and change it: "+plaintextRemedy)
		case l.speaksTLS() && ln.beyondThisHost():
			l.warn(key, "is plaintext for other hosts, while other listeners use TLS: "+plaintextRemedy)
		case ln.everywhere() && !l.IsSet("listen"): // the default, which nobody chose
			l.warn("listen", "the default "+ln.Address+" "+everywhere+plaintextRemedy+" (--listen 127.0.0.1"+ln.Address+")")
		case ln.everywhere() && !l.IsSet(Entry("listen", i)+".tls.enabled"):
			l.warn(key, everywhere+plaintextRemedy+"; if only a proxy with TLS connects to it, set tls: {enabled: false} for the listener")
		}
	}
}

const (
	everywhere      = "is plaintext on every address of this host, including public ones if it has any: "
	plaintextRemedy = "set a certificate (tls), name the proxies with TLS in front of it (trusted_proxies, proxy_protocol), or listen on 127.0.0.1"
)

// isPublic reports whether clients from the internet reach the listener: it
// has a public address, or it has a default port of browsers on all addresses.
func (l Listener) isPublic() bool {
	host, port, err := net.SplitHostPort(l.Address)
	if err != nil {
		return false
	}
	if isWildcard(host) {
		return port == "80" || port == "443"
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && isPublicAddr(addr)
}

// everywhere reports whether the listener takes every address of this host:
// ":8080", "0.0.0.0:8080" or "[::]:8080".
func (l Listener) everywhere() bool {
	host, _, err := net.SplitHostPort(l.Address)
	return err == nil && isWildcard(host)
}

// sharedAddresses is for networks behind a carrier's NAT. RFC 6598.
var sharedAddresses = netip.MustParsePrefix("100.64.0.0/10")

func isPublicAddr(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && !sharedAddresses.Contains(addr)
}

// checkTrust warns of trusted networks that are too wide to belong to one
// owner.
func checkTrust(l *Loaded) {
	for _, o := range l.trust() {
		switch {
		case slices.ContainsFunc(o.networks, func(p netip.Prefix) bool { return p.Bits() == 0 }):
			l.warn(o.key, "trusts everybody: list only the addresses of the proxies")
		case slices.ContainsFunc(o.networks, tooWide):
			l.warn(o.key, "trusts large parts of the internet: list only the addresses of the proxies")
		}
	}
}

// A trusting key lists networks that culvert trusts.
type trusting struct {
	key      string
	networks []netip.Prefix
}

// trust returns these keys of the file, and those that listeners set.
func (l *Loaded) trust() []trusting {
	all := []trusting{{"trusted_proxies", l.TrustedProxies}, {"proxy_protocol", l.ProxyProtocol}}
	for i, ln := range l.Listen {
		at := Entry("listen", i)
		for _, own := range []trusting{{at + ".trusted_proxies", ln.TrustedProxies}, {at + ".proxy_protocol", ln.ProxyProtocol}} {
			if l.IsSet(own.key) {
				all = append(all, own)
			}
		}
	}
	return all
}

// tooWide reports whether no single owner has such a network. The widest ones
// with a single owner are 10.0.0.0/8, fc00::/7, and a provider's IPv6 /16.
func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 16 && !p.Addr().IsPrivate()
}

// everyUser is the permission of all users of this host.
const everyUser = 0o002

// checkSocketTrust warns of unix sockets on which all clients are trusted.
// Each client of a unix socket counts as 127.0.0.1, so only the mode limits
// who is trusted.
func checkSocketTrust(l *Loaded) {
	for i, ln := range l.Listen {
		believed := slices.ContainsFunc(slices.Concat(ln.TrustedProxies, ln.ProxyProtocol), func(p netip.Prefix) bool { return p.Contains(unixClient) })
		if ln.Socket() != "" && ln.SocketMode()&everyUser != 0 && believed {
			l.warn(Entry("listen", i)+".mode", `lets everybody on this host forge client addresses, because clients of a unix socket count as 127.0.0.1, which is trusted: write "0660", or remove 127.0.0.1 from trusted_proxies and proxy_protocol`)
		}
	}
}

// unixClient is the address of clients on unix sockets.
var unixClient = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// checkReachableByCA warns if the CA can't reach culvert for a challenge. The
// CA chooses the port.
func checkReachableByCA(l *Loaded) {
	if !l.TLS.ACME.Enabled() || l.TLS.ACME.DNSProvider != "" {
		return
	}
	addresses := []string{l.TLS.HTTPListen}
	for i, ln := range l.Listen {
		if ln.TLS.Enabled && l.ListenerTLS(i).ACME.Enabled() {
			addresses = append(addresses, ln.Address)
		}
	}
	if slices.ContainsFunc(addresses, func(address string) bool { return Listener{Address: address}.beyondThisHost() }) {
		return
	}
	l.warn(l.TLS.ACME.namesKey(), "requires that the CA reaches port 443 or 80, but culvert listens on this host only: listen on :443, set tls.http_listen to :80, forward one of these ports to culvert, or use a tls.acme.dns_provider")
}

// checkDevelopmentCertificate warns of the development certificate on a public
// address. Users would learn to ignore browser warnings.
func checkDevelopmentCertificate(l *Loaded) {
	for i, ln := range l.Listen {
		if ln.TLS.SelfSigned && ln.isPublic() {
			l.warn(Entry("listen", i)+".tls.self_signed", "uses the development certificate on a public address, where no client trusts it: set a real certificate (tls.cert, tls.acme), or listen on 127.0.0.1")
		}
	}
}
