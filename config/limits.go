package config

import (
	"fmt"
	"math"
)

// AddressLimits are the limits of one client address: an IPv4 address, or the
// first 64 bits of an IPv6 address. The defaults are far above what one client
// needs, because many clients may share an address: a company behind a proxy
// that inspects TLS, or a carrier's network.
type AddressLimits struct {
	// Concurrent connections; 0 is no limit.
	Connections int `key:"connections"`

	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// TLS handshakes in a second and, counted separately, WebSocket handshakes
	// in a second; 0 is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`

	// Concurrent requests to the web server in fallback; 0 is no limit.
	FallbackRequests int `key:"fallback_requests"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	// "auto" is 16MiB for each CPU that culvert may use when it starts
	// (GOMAXPROCS). One message may exceed the bytes that are left for
	// this second. culvert then refuses the next compressed messages of the
	// address until the excess is made up for.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size, 0 or auto"`
}

// MethodLimits are the limits of the calls to some methods.
type MethodLimits struct {
	// The methods: "shop.v1.Orders/*", "shop.v1.*/Get*".
	Pattern string `key:"pattern" is:"method pattern" needed:"true"`

	// The largest message in each direction, in place of limits.message_bytes.
	MessageBytes Size `key:"message_bytes"`

	// The metadata of one call in each direction, if less than
	// limits.header_bytes.
	HeaderBytes Size `key:"header_bytes"`

	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size or 0"`
}

// ListenerLimits are the limits of all clients of one listener together, in
// addition to Limits.
type ListenerLimits struct {
	// Concurrent connections; 0 is no limit.
	Connections int `key:"connections"`

	// Concurrent calls; 0 is no limit.
	Calls int `key:"calls"`

	// Calls that start in a second; 0 is no limit.
	CallsPerSecond int `key:"calls_per_second"`

	// TLS handshakes in a second and, counted separately, WebSocket handshakes
	// in a second; 0 is no limit.
	HandshakesPerSecond int `key:"handshakes_per_second"`

	// Bytes that compressed requests may expand to in a second; 0 is no limit.
	DecompressedBytesPerSecond Size `key:"decompressed_bytes_per_second" is:"size or 0"`

	// The largest message in each direction, if less than limits.message_bytes
	// and limits.methods allow.
	MessageBytes Size `key:"message_bytes"`

	// The metadata of one call in each direction, if less than
	// limits.header_bytes.
	HeaderBytes Size `key:"header_bytes"`

	// Concurrent calls on one HTTP/2 connection, or in one tunnel, if less than
	// limits.calls_per_connection.
	CallsPerConnection int `key:"calls_per_connection"`
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
			errs = append(errs, l.Errorf(o.key, "is too large: write less than 2GiB, or 0 for no limit"))
		}
	}
	if lim.Memory > 0 && lim.Memory < minMemory {
		errs = append(errs, l.Errorf("limits.memory", "is less than culvert needs: write at least %v", Size(minMemory)))
	}
	if clients := ClientMemory(lim.Memory); lim.Memory >= minMemory {
		if l.IsSet("limits.buffered_bytes") && lim.BufferedBytes > clients {
			errs = append(errs, l.Errorf("limits.buffered_bytes", "is more than limits.memory leaves for clients (%v): lower it, or raise limits.memory", clients))
		}
		if lim.MessageBytes > clients {
			l.warn("limits.memory", fmt.Sprintf("leaves %v for clients, so the largest message can't pass: raise it, or lower limits.message_bytes", clients))
		}
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
		{"limits.address.fallback_requests", lim.Address.FallbackRequests, lim.FallbackRequests, "limits.fallback_requests"},
	} {
		if l.IsSet(o.key) && o.one > o.all && o.all > 0 {
			l.warn(o.key, "is more than "+o.allAnswer+" for all addresses together, so it has no effect: lower it")
		}
	}
	errs = append(errs, checkSizes(l)...)
	var patterns []string
	for i, m := range lim.Methods {
		patterns = append(patterns, m.Pattern)
		key := Entry("limits.methods", i) + ".message_bytes"
		switch {
		case m.MessageBytes > math.MaxInt32:
			errs = append(errs, l.Errorf(key, "is too large: write less than 2GiB"))
		case m.MessageBytes > lim.BufferedBytes:
			errs = append(errs, l.Errorf(key, "is more than limits.buffered_bytes, so the largest message can't pass: lower it, or raise limits.buffered_bytes"))
		}
	}
	errs = append(errs, checkPatternsCount(l, "limits.methods", patterns)...)
	if !lim.Enforce {
		l.warn("limits.enforce", "is false, so limits of calls, handshakes and addresses refuse nothing: set it to true when the log shows no client that the limits should allow")
	}
	return errs
}

// checkSizes checks the sizes of methods, listeners and routes: they must fit into an
// int, and have no effect above the limits for all.
func checkSizes(l *Loaded) []error {
	type size struct {
		key      string
		one, all Size // all 0: no limit for all
		holds    string
	}
	lim := l.Limits
	var sizes []size
	for i, m := range lim.Methods {
		at := Entry("limits.methods", i)
		sizes = append(
			sizes,
			size{at + ".header_bytes", m.HeaderBytes, lim.HeaderBytes, "limits.header_bytes"},
			size{at + ".decompressed_bytes_per_second", m.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond, "limits.decompressed_bytes_per_second"},
		)
	}
	for i, ln := range l.Listen {
		at, own := Entry("listen", i)+".limits", ln.Limits
		sizes = append(
			sizes,
			size{at + ".header_bytes", own.HeaderBytes, lim.HeaderBytes, "limits.header_bytes"},
			size{at + ".message_bytes", own.MessageBytes, 0, ""},
			size{at + ".calls_per_connection", Size(own.CallsPerConnection), Size(lim.CallsPerConnection), "limits.calls_per_connection"},
			size{at + ".decompressed_bytes_per_second", own.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond, "limits.decompressed_bytes_per_second"},
		)
	}
	for i := range l.Routes {
		at, own := Entry("routes", i)+".limits", l.Routes[i].Limits
		sizes = append(
			sizes,
			size{at + ".header_bytes", own.HeaderBytes, lim.HeaderBytes, "limits.header_bytes"},
			size{at + ".message_bytes", own.MessageBytes, 0, ""},
			size{at + ".decompressed_bytes_per_second", own.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond, "limits.decompressed_bytes_per_second"},
		)
	}
	var errs []error
	for _, s := range sizes {
		switch {
		case s.one > math.MaxInt32:
			errs = append(errs, l.Errorf(s.key, "is too large: write less than 2GiB, or 0 for no limit"))
		case s.all > 0 && s.one > s.all:
			l.warn(s.key, "is more than "+s.holds+", so it has no effect: lower it")
		}
	}
	return errs
}

// The program takes programMemory, and clients may hold clientShare of the
// rest. The other 35 % are for garbage that the collector has not found yet,
// and for errors in the estimates of calls and connections.
const (
	programMemory   = 20 << 20
	clientShare     = 0.65
	minClientMemory = 4 << 20 // for a few calls, whatever the limit is
)

// ClientMemory returns the memory that clients may hold if culvert may use
// limit.
func ClientMemory(limit Size) Size {
	return max(Size(clientShare*float64(limit-programMemory)), minClientMemory)
}

// BufferedBytes returns the limits.buffered_bytes in effect if culvert may use
// limit. Unless the operator has set the key, it is at most half of ClientMemory,
// and at least one message.
func (l *Loaded) BufferedBytes(limit Size) Size {
	if l.IsSet("limits.buffered_bytes") {
		return l.Limits.BufferedBytes
	}
	return max(min(l.Limits.BufferedBytes, ClientMemory(limit)/2), l.Limits.MessageBytes)
}

// minMemory is enough for a few calls.
const minMemory = 32 << 20
