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
	refuseOver(l, "limits.header_bytes", lim.HeaderBytes, maxHeaderBytes, "is too large")
	refuseOver(l, "limits.calls_per_connection", lim.CallsPerConnection, maxCallsPerConnection, "is too large")
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
	checkSize(l, "limits.decompressed_bytes_per_second", lim.DecompressedBytesPerSecond, 0, "")
	checkSize(l, "limits.address.decompressed_bytes_per_second", lim.Address.DecompressedBytesPerSecond, 0, "")
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
	type part struct {
		key      string
		one, all int
		holds    string
	}
	for _, o := range []part{
		{"limits.address.connections", lim.Address.Connections, lim.Connections, "limits.connections"},
		{"limits.address.calls", lim.Address.Calls, lim.Calls, "limits.calls"},
		{"limits.address.calls_per_second", lim.Address.CallsPerSecond, lim.CallsPerSecond, "limits.calls_per_second"},
		{"limits.address.handshakes_per_second", lim.Address.HandshakesPerSecond, lim.HandshakesPerSecond, "limits.handshakes_per_second"},
		{"limits.address.fallback_requests", lim.Address.FallbackRequests, lim.FallbackRequests, "limits.fallback_requests"},
	} {
		if l.IsSet(o.key) && o.one > o.all && o.all > 0 {
			l.warn(o.key, "is more than "+o.holds+" for all addresses together, so it has no effect: lower it")
		}
	}
	for _, o := range []part{
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

// checkSizes checks the sizes of methods, listeners and routes.
func checkSizes(l *Loaded) {
	lim := l.Limits
	for i, m := range lim.Methods {
		at := Entry("limits.methods", i)
		checkSize(l, at+".header_bytes", m.HeaderBytes, lim.HeaderBytes, "limits.header_bytes")
		checkSize(l, at+".decompressed_bytes_per_second", m.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond, "limits.decompressed_bytes_per_second")
	}
	for i, ln := range l.Listen {
		at, own := Entry("listen", i)+".limits", ln.Limits
		checkSize(l, at+".header_bytes", own.HeaderBytes, lim.HeaderBytes, "limits.header_bytes")
		checkSize(l, at+".message_bytes", own.MessageBytes, 0, "")
		checkSize(l, at+".calls_per_connection", Size(own.CallsPerConnection), Size(lim.CallsPerConnection), "limits.calls_per_connection")
		checkSize(l, at+".decompressed_bytes_per_second", own.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond, "limits.decompressed_bytes_per_second")
	}
	for i := range l.Routes {
		at, own := Entry("routes", i)+".limits", l.Routes[i].Limits
		checkSize(l, at+".header_bytes", own.HeaderBytes, lim.HeaderBytes, "limits.header_bytes")
		checkSize(l, at+".message_bytes", own.MessageBytes, 0, "")
		checkSize(l, at+".decompressed_bytes_per_second", own.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond, "limits.decompressed_bytes_per_second")
	}
}

// checkSize checks that a size fits into an int, and that it has an effect beside that of the key
// holds, which is the limit for all unless it is 0.
func checkSize(l *Loaded, key string, size, all Size, holds string) {
	switch {
	case size > math.MaxInt32:
		l.refuse(key, "is too large: write less than 2GiB, or 0 for no limit")
	case all > 0 && size > all:
		l.warn(key, "is more than "+holds+", so it has no effect: lower it")
	}
}
