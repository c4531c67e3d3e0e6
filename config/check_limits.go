package config

import (
	"fmt"
	"math"
)

const (
	maxHeaderBytes = 16 << 20
	// Each call adds its window to the window of its connection, which HTTP/2
	// limits to 2 GiB. RFC 9113 §6.9.1.
	maxCallsPerConnection = 10_000
)

// minMemory is enough for a few calls.
const minMemory = 32 << 20

func checkLimits(l *Loaded) {
	lim := l.Limits
	// The length prefix of a message allows more. int on 32-bit machines and the
	// limits of grpc-go allow no more.
	if lim.MessageBytes > math.MaxInt32 {
		l.refuse("limits.message_bytes", "is too large: write less than 2GiB")
	}
	if lim.HeaderBytes > maxHeaderBytes {
		l.refuse("limits.header_bytes", "is too large: write at most %v", Size(maxHeaderBytes))
	}
	if lim.CallsPerConnection > maxCallsPerConnection {
		l.refuse("limits.calls_per_connection", "is too large: write at most %d", maxCallsPerConnection)
	}
	switch {
	case lim.BufferedBytes >= lim.MessageBytes:
	case l.IsSet("limits.buffered_bytes"):
		l.refuse("limits.buffered_bytes", "is less than limits.message_bytes, so the largest message can't pass: raise it, or lower limits.message_bytes")
	default:
		l.refuse("limits.message_bytes", "is more than limits.buffered_bytes, so the largest message can't pass: lower it, or raise limits.buffered_bytes")
	}
}

func checkUseLimits(l *Loaded) {
	lim := l.Limits
	for _, o := range []struct {
		key  string
		size Size
	}{
		{"limits.decompressed_bytes_per_second", lim.DecompressedBytesPerSecond},
		{"limits.address.decompressed_bytes_per_second", lim.Address.DecompressedBytesPerSecond},
	} {
		if o.size > math.MaxInt32 {
			l.refuse(o.key, "is too large: write less than 2GiB, or 0 for no limit")
		}
	}
	if lim.Memory > 0 && lim.Memory < minMemory {
		l.refuse("limits.memory", "is less than culvert needs: write at least %v", Size(minMemory))
	}
	if clients := ClientMemory(lim.Memory); lim.Memory >= minMemory {
		if l.IsSet("limits.buffered_bytes") && lim.BufferedBytes > clients {
			l.refuse("limits.buffered_bytes", "is more than limits.memory leaves for clients (%v): lower it, or raise limits.memory", clients)
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
	for _, o := range []struct {
		key      string
		one, all int
		holds    string
	}{
		{"limits.identity.calls", lim.Identity.Calls, lim.Calls, "limits.calls"},
		{"limits.identity.calls_per_second", lim.Identity.CallsPerSecond, lim.CallsPerSecond, "limits.calls_per_second"},
	} {
		switch {
		case o.one > 0 && len(l.Auth.Ways()) == 0:
			l.warn(o.key, "has no effect, because no call has an identity: add a way to authenticate (auth)")
		case o.one > o.all && o.all > 0:
			l.warn(o.key, "is more than "+o.holds+" for all identities together, so it has no effect: lower it")
		}
	}
	checkSizes(l)
	var patterns []string
	for i, m := range lim.Methods {
		patterns = append(patterns, m.Pattern)
		key := Entry("limits.methods", i) + ".message_bytes"
		switch {
		case m.MessageBytes > math.MaxInt32:
			l.refuse(key, "is too large: write less than 2GiB")
		case m.MessageBytes > lim.BufferedBytes:
			l.refuse(key, "is more than limits.buffered_bytes, so the largest message can't pass: lower it, or raise limits.buffered_bytes")
		}
	}
	checkPatternsCount(l, "limits.methods", patterns)
	if !lim.Enforce {
		l.warn("limits.enforce", "is false, so limits of calls, handshakes and addresses refuse nothing: set it to true when the log shows no client that the limits should allow")
	}
}

// checkSizes checks the sizes of methods, listeners and routes: they must fit into an
// int, and have no effect above the limits for all.
func checkSizes(l *Loaded) {
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
	for _, s := range sizes {
		switch {
		case s.one > math.MaxInt32:
			l.refuse(s.key, "is too large: write less than 2GiB, or 0 for no limit")
		case s.all > 0 && s.one > s.all:
			l.warn(s.key, "is more than "+s.holds+", so it has no effect: lower it")
		}
	}
}
