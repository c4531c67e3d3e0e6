package config

import "math"

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
	if !lim.Enforce {
		l.warn("limits.enforce", "is false, so limits of calls, handshakes and addresses refuse nothing: make it true when the log names no client that should be served")
	}
	return errs
}

// minMemory is what a culvert of a few calls needs.
const minMemory = 32 << 20
