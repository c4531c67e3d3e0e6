package config

import "math"

// AddressLimits is what one client address may use: an IPv4 address, or the
// first 64 bits of an IPv6 one. It is the client's own, behind a proxy of
// trusted_proxies or proxy_protocol too. Its defaults are far above what one
// client needs, since many may share an address: a company behind a proxy that
// inspects TLS, or a carrier's network.
type AddressLimits struct {
	// Connections at one time; 0 is no limit.
	Connections int `key:"connections"`

	// Calls at one time; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that begin in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// WebSockets opened in a second and, counted apart from them, TLS
	// handshakes; 0 is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`

	// Bytes that compressed requests expand to in a second; 0 is no limit. A
	// message is expanded whole: what it has too much, the next wait for.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size or 0"`
}

// MethodLimits is what the calls of some methods may use.
type MethodLimits struct {
	// Which methods: "shop.v1.Orders/*", "shop.v1.*/Get*".
	Pattern string `key:"pattern" is:"method pattern" needed:"true"`

	// The largest message of such a call, each way, in place of
	// limits.message_bytes.
	MessageBytes Size `key:"message_bytes"`

	// Such calls at one time; 0 is no limit.
	Calls int `key:"calls"`

	// Such calls that begin in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`
}

// ListenerLimits is what all who come in on one listener may use together.
// They count with limits, too.
type ListenerLimits struct {
	// Connections at one time; 0 is no limit.
	Connections int `key:"connections"`

	// Calls at one time; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that begin in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// WebSockets opened in a second and, counted apart from them, TLS
	// handshakes; 0 is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`
}

func checkUseLimits(l *Loaded) []error {
	var errs []error
	lim := l.Limits
	for _, o := range []struct {
		key  string
		size Size
	}{
		{"limits.decompressed_bytes_per_second", lim.DecompressedBytesPerSecond},
		{"limits.address.decompressed_bytes_per_second", lim.Address.DecompressedBytesPerSecond},
	} {
		if o.size > math.MaxInt32 {
			errs = append(errs, l.Errorf(o.key, "is too much: write less than 2GiB, or 0 for no limit"))
		}
	}
	if lim.Memory > 0 && lim.Memory < minMemory {
		errs = append(errs, l.Errorf("limits.memory", "is less than culvert needs for itself: write at least %v", Size(minMemory)))
	}
	if lim.Memory > 0 && l.IsSet("limits.buffered_bytes") && lim.BufferedBytes > lim.Memory/4*3 {
		errs = append(errs, l.Errorf("limits.buffered_bytes", "is more than three quarters of limits.memory, and connections need memory too: lower it, or raise that"))
	}
	for _, o := range []struct {
		key       string
		one, all  int
		allAnswer string
	}{
		{"limits.address.connections", lim.Address.Connections, lim.Connections, "limits.connections"},
		{"limits.address.calls", lim.Address.Calls, lim.Calls, "limits.calls"},
		{"limits.address.calls_per_second", lim.Address.CallsPerSecond, lim.CallsPerSecond, "limits.calls_per_second"},
		{"limits.address.handshakes_per_second", lim.Address.HandshakesPerSecond, lim.HandshakesPerSecond, "limits.handshakes_per_second"},
	} {
		if l.IsSet(o.key) && o.one > o.all && o.all > 0 {
			l.warn(o.key, "is more than "+o.allAnswer+" for all addresses together, so it never counts: lower it")
		}
	}
	for i, m := range lim.Methods {
		key := Entry("limits.methods", i) + ".message_bytes"
		switch {
		case m.MessageBytes > math.MaxInt32:
			errs = append(errs, l.Errorf(key, "is too much: write less than 2GiB"))
		case m.MessageBytes > lim.BufferedBytes:
			errs = append(errs, l.Errorf(key, "is more than limits.buffered_bytes, so the largest message could never pass: lower it, or raise that"))
		}
		for j, before := range lim.Methods[:i] {
			if before.Pattern == m.Pattern {
				errs = append(errs, l.Errorf(Entry("limits.methods", i)+".pattern", "is that of %s, which counts first: make one of them", l.place(Entry("limits.methods", j)+".pattern")))
			}
		}
	}
	if !lim.Enforce {
		l.warn("limits.enforce", "is false, so limits of calls, handshakes and addresses refuse nothing: make it true when the log names no client that should be served")
	}
	return errs
}

// minMemory is what a culvert of a few calls needs.
const minMemory = 32 << 20
