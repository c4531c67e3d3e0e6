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
	checkSize(l, "limits", "decompressed_bytes_per_second", lim.DecompressedBytesPerSecond, 0)
	checkSize(l, "limits.address", "decompressed_bytes_per_second", lim.Address.DecompressedBytesPerSecond, 0)
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
	type part struct { // of what limits.NAME has for all
		name     string
		one, all int
	}
	for _, o := range []part{
		{"connections", lim.Address.Connections, lim.Connections},
		{"calls", lim.Address.Calls, lim.Calls},
		{"calls_per_second", lim.Address.CallsPerSecond, lim.CallsPerSecond},
		{"handshakes_per_second", lim.Address.HandshakesPerSecond, lim.HandshakesPerSecond},
		{"fallback_requests", lim.Address.FallbackRequests, lim.FallbackRequests},
	} {
		if key := "limits.address." + o.name; l.IsSet(key) && o.one > o.all && o.all > 0 {
			l.warn(key, "is more than limits."+o.name+" for all addresses together, so it has no effect: lower it")
		}
	}
	for _, o := range []part{
		{"calls", lim.Identity.Calls, lim.Calls},
		{"calls_per_second", lim.Identity.CallsPerSecond, lim.CallsPerSecond},
	} {
		switch key := "limits.identity." + o.name; {
		case o.one > 0 && len(l.Auth.Ways()) == 0:
			l.warn(key, "has no effect, because no call has an identity: add a way to authenticate (auth)")
		case o.one > o.all && o.all > 0:
			l.warn(key, "is more than limits."+o.name+" for all identities together, so it has no effect: lower it")
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

func checkSizes(l *Loaded) {
	lim := l.Limits
	for i, m := range lim.Methods {
		at := Entry("limits.methods", i)
		checkSize(l, at, "header_bytes", m.HeaderBytes, lim.HeaderBytes)
		checkSize(l, at, "decompressed_bytes_per_second", m.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond)
	}
	for i, ln := range l.Listen {
		at, own := Entry("listen", i)+".limits", ln.Limits
		checkSize(l, at, "header_bytes", own.HeaderBytes, lim.HeaderBytes)
		checkSize(l, at, "message_bytes", own.MessageBytes, 0)
		checkSize(l, at, "calls_per_connection", Size(own.CallsPerConnection), Size(lim.CallsPerConnection))
		checkSize(l, at, "decompressed_bytes_per_second", own.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond)
	}
	for i := range l.Routes {
		at, own := Entry("routes", i)+".limits", l.Routes[i].Limits
		checkSize(l, at, "header_bytes", own.HeaderBytes, lim.HeaderBytes)
		checkSize(l, at, "message_bytes", own.MessageBytes, 0)
		checkSize(l, at, "decompressed_bytes_per_second", own.DecompressedBytesPerSecond, lim.DecompressedBytesPerSecond)
	}
}

// checkSize checks that a size of a section fits into an int, and that it has an effect beside the
// key of the same name in limits, whose value is all, unless that is 0.
func checkSize(l *Loaded, section, name string, size, all Size) {
	switch key := join(section, name); {
	case size > math.MaxInt32:
		l.refuse(key, "is too large: write less than 2GiB, or 0 for no limit")
	case all > 0 && size > all:
		l.warn(key, "is more than limits."+name+", so it has no effect: lower it")
	}
}
