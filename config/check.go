package config

import (
	"math"
	"net"
	"slices"
	"time"
)

// checks find mistakes that involve several keys; each value is valid by
// itself by now. A check returns contradictions as errors, and reports dangers
// as warnings. Their texts name keys and no values, because a value may be a
// secret.
var checks = []func(*Loaded) []error{
	checkBackends,
	checkRoutes,
	checkBackendTLS,
	checkBackendIsNotOurselves,
	checkFallback,
	checkKeepalive,
	checkBalance,
	checkHealthCheck,
	checkWildcardOrigin,
	checkOriginsOfStrangers,
	checkOriginsOfCookies,
	checkTriedOut,
	checkTrust,
	checkSocketTrust,
	checkTLS,
	checkPlaintext,
	checkReachableByCA,
	checkDevelopmentCertificate,
	checkDetailedErrors,
	checkLimits,
	checkUseLimits,
	checkLogSamples,
	checkDrainSpread,
	checkHealthListen,
	checkDependsOn,
	checkAdminListen,
	checkListeners,
	checkHTTPListen,
	checkACME,
}

func (l *Loaded) check() []error {
	var errs []error
	for _, c := range checks {
		errs = append(errs, c(l)...)
	}
	return errs
}

func (l *Loaded) warn(key, text string) {
	l.Warnings = append(l.Warnings, l.Place(key)+": "+text)
}

// checkBackendTLS also turns TLS on if another key of the section implies it.
// If culvert ignored a CA, it would send plaintext to a server that the
// operator wants to verify.
func checkBackendTLS(l *Loaded) []error {
	var errs []error
	for _, b := range l.BackendSections() {
		at, tls := b.Section+".tls", &b.TLS
		for _, o := range []struct{ key, value string }{
			{at + ".ca", tls.CA},
			{at + ".cert", tls.Cert},
			{at + ".key", tls.Key},
			{at + ".server_name", tls.ServerName},
		} {
			switch {
			case o.value == "":
			case !tls.Enabled && l.IsSet(at+".enabled"):
				errs = append(errs, l.Errorf(o.key, "is set, but %s turns TLS off: remove one of these keys", l.Place(at+".enabled")))
			case !tls.Enabled:
				tls.Enabled = true
				l.derived[at+".enabled"] = o.key
			}
		}
		if tls.Cert != "" && tls.Key == "" {
			errs = append(errs, l.Errorf(at+".cert", "requires the private key: set %s", alsoFlag(at, "key")))
		}
		if tls.Key != "" && tls.Cert == "" {
			errs = append(errs, l.Errorf(at+".key", "requires the certificate: set %s", alsoFlag(at, "cert")))
		}
	}
	return errs
}

// checkBackendIsNotOurselves finds the loop that arises if culvert listens on
// the address of a backend.
func checkBackendIsNotOurselves(l *Loaded) []error {
	var errs []error
	for _, b := range l.BackendSections() {
		backHost, backPort, err := net.SplitHostPort(b.Address)
		if err != nil {
			continue // a resolver's name, a socket, or nothing
		}
		if slices.ContainsFunc(l.Listen, func(ln Listener) bool { return reaches(backHost, backPort, ln.Address) }) {
			errs = append(errs, l.Errorf(b.Section+".address", "is the port on which culvert itself listens: change it, or change listen (--listen)"))
		}
	}
	return errs
}

// The keepalive.EnforcementPolicy of a grpc-go server has a default MinTime of
// 5 minutes.
func checkKeepalive(l *Loaded) []error {
	for _, b := range l.BackendSections() {
		if d := b.Keepalive; d > 0 && d < 5*time.Minute {
			l.warn(b.Section+".keepalive", "is less than 5m: an ordinary gRPC server closes connections that ping more often, so make sure that this backend allows it")
		}
	}
	return nil
}

func checkWildcardOrigin(l *Loaded) []error {
	if !slices.Contains(l.AllowOrigins, "*") {
		return nil
	}
	l.warn("allow_origins", `"*" allows every page on the internet to call: list the origins, unless the backend is for everyone`)
	var errs []error
	for _, o := range []struct {
		key string
		set bool
	}{
		{"metadata.forward_cookies", l.Metadata.ForwardCookies},
		{"metadata.forward_set_cookies", l.Metadata.ForwardSetCookies},
	} {
		if o.set {
			errs = append(errs, l.Errorf(o.key, `cookies don't pass while allow_origins has "*": list the origins, or set this key to false`))
		}
	}
	return errs
}

func checkDetailedErrors(l *Loaded) []error {
	if l.Errors == "detailed" && slices.ContainsFunc(l.Listen, Listener.beyondThisHost) {
		l.warn("errors", "detailed shows internal addresses to every client: use concise if clients are on other hosts")
	}
	return nil
}

func checkLimits(l *Loaded) []error {
	var errs []error
	lim := l.Limits
	// The length prefix of a message allows more. int on 32-bit machines and the
	// limits of grpc-go allow no more.
	if lim.MessageBytes > math.MaxInt32 {
		errs = append(errs, l.Errorf("limits.message_bytes", "is too large: write less than 2GiB"))
	}
	if lim.HeaderBytes > maxHeaderBytes {
		errs = append(errs, l.Errorf("limits.header_bytes", "is too large: write at most %v", Size(maxHeaderBytes)))
	}
	if lim.CallsPerConnection > maxCallsPerConnection {
		errs = append(errs, l.Errorf("limits.calls_per_connection", "is too large: write at most %d", maxCallsPerConnection))
	}
	switch {
	case lim.BufferedBytes >= lim.MessageBytes:
	case l.IsSet("limits.buffered_bytes"):
		errs = append(errs, l.Errorf("limits.buffered_bytes", "is less than limits.message_bytes, so the largest message can't pass: raise it, or lower limits.message_bytes"))
	default:
		errs = append(errs, l.Errorf("limits.message_bytes", "is more than limits.buffered_bytes, so the largest message can't pass: lower it, or raise limits.buffered_bytes"))
	}
	return errs
}

const (
	maxHeaderBytes = 16 << 20
	// Each call adds its window to the window of its connection, which HTTP/2
	// limits to 2 GiB. RFC 9113 §6.9.1.
	maxCallsPerConnection = 10_000
)

func checkDrainSpread(l *Loaded) []error {
	if l.IsSet("drain_spread") && l.DrainSpread > l.DrainTimeout {
		return []error{l.Errorf("drain_spread", "is more than drain_timeout, of which it is a part: lower it, or raise drain_timeout (--drain-timeout)")}
	}
	return nil
}

// Spread returns the drain_spread in effect.
func (l *Loaded) Spread() time.Duration {
	if l.IsSet("drain_spread") {
		return l.DrainSpread
	}
	return min(l.DrainSpread, l.DrainTimeout/2)
}

func checkHealthListen(l *Loaded) []error {
	for _, ln := range l.Listen {
		if collide(l.Health.Listen, ln.Address) {
			return []error{l.Errorf("health.listen", "is the port of listen: use another port, or turn health checks off (--health-listen off)")}
		}
	}
	return nil
}
