package config

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// checkBalance warns of a policy for each backend that has one address.
func checkBalance(l *Loaded) {
	for _, b := range l.BackendSections() {
		if l.IsSet(b.Section+".balance") && b.Address != "" && (b.UseProxy || hasOneAddress(b.Address)) {
			l.warn(b.Section+".balance", "has no effect: culvert sees one address of this backend. Remove it, or set address to a name that resolves to several addresses, without use_proxy")
		}
	}
}

// checkHealthCheck warns of the name of a service that isn't asked for.
func checkHealthCheck(l *Loaded) {
	for _, b := range l.BackendSections() {
		if b.HealthCheck.Service != "" && !b.HealthCheck.Enabled {
			l.warn(b.Section+".health_check.service", "has no effect: set "+b.Section+".health_check.enabled to true")
		}
	}
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

// checkBackends finds backends in both forms, names that are used twice, and backends
// that get no call.
func checkBackends(l *Loaded) {
	if len(l.Backends) == 0 {
		return
	}
	checkOneForm(l)
	byName := map[string]int{}
	for i, b := range l.Backends {
		if first, twice := byName[b.Name]; twice {
			l.refuse(Entry("backends", i)+".name", "is the name of %s, too: use another one", Entry("backends", first))
			continue
		}
		byName[b.Name] = i
		if b.Address == "" {
			l.refuse(Entry("backends", i)+".address", "is empty: write host:port")
		}
	}
	if len(l.Routes) > 0 {
		warnOfUnusedBackends(l)
		return
	}
	if len(l.Backends) == 1 {
		return
	}
	if _, ok := byName[DefaultBackend]; !ok {
		l.refuse("backends", "has several entries, and none is named %s, so culvert can't choose one for a call: name one of them %[1]s, or add routes", DefaultBackend)
		return
	}
	for i, b := range l.Backends {
		if b.Name != DefaultBackend {
			l.warn(Entry("backends", i), "gets no calls, because all calls go to the backend named "+DefaultBackend+": add a route to it (routes)")
		}
	}
}

// checkOneForm refuses each flag and variable that sets a key of backend although there
// are backends, and the section in the file.
func checkOneForm(l *Loaded) {
	const move = "write the same as an entry of backends (%s): \"- name: " + DefaultBackend + "\", with %s below"
	var inFile []string
	var first string
	for _, key := range fileKeys.keys {
		k := key.Name
		below, inSection := strings.CutPrefix(k, "backend.")
		if !inSection || !l.IsSet(k) {
			continue
		}
		if l.origins[k].inFile {
			inFile = append(inFile, inEntry(below))
			first = cmp.Or(first, k)
			continue
		}
		l.refuse(k, "sets %s, but the file has backends: remove it, and "+move, k, l.origins["backends"].place, inEntry(below))
	}
	if first != "" {
		l.refuse(first, "is set, but the file has backends, too: remove the section backend, and "+move, l.origins["backends"].place, strings.Join(inFile, ", "))
	}
}

// checkDependsOn finds names in health.depends_on that no backend has.
func checkDependsOn(l *Loaded) {
	var names []string
	for _, b := range l.BackendSections() {
		names = append(names, b.Name)
	}
	for _, name := range l.Health.DependsOn {
		if !slices.Contains(names, name) {
			l.refuse("health.depends_on", "%q is no backend: the backends are %s", name, strings.Join(names, ", "))
		}
	}
	if len(l.Health.DependsOn) > 0 && l.Health.Listen == "" {
		l.warn("health.depends_on", "has no effect, because health.listen is off: set it to an address")
	}
}

// checkBackendTLS also turns TLS on if another key of the section implies it.
// If culvert ignored a CA, it would send plaintext to a server that the
// operator wants to verify.
func checkBackendTLS(l *Loaded) {
	for _, b := range l.BackendSections() {
		at, tls := b.Section+".tls", &b.TLS
		impliedTLS(l, at, &tls.Enabled, tls.CA, tls.Cert, tls.Key, tls.ServerName)
		checkPair(l, at, tls.Cert, tls.Key)
	}
}

// impliedTLS turns TLS of a section on if one of the other keys is set.
func impliedTLS(l *Loaded, at string, enabled *bool, ca, cert, key, serverName string) {
	for _, o := range []struct{ key, value string }{
		{at + ".ca", ca},
		{at + ".cert", cert},
		{at + ".key", key},
		{at + ".server_name", serverName},
	} {
		switch {
		case o.value == "":
		case !*enabled && l.IsSet(at+".enabled"):
			l.refuse(o.key, "is set, but %s turns TLS off: remove one of these keys", l.Place(at+".enabled"))
		case !*enabled:
			*enabled = true
			l.derived[at+".enabled"] = o.key
		}
	}
}

// checkBackendIsNotOurselves finds the loop that arises if culvert listens on
// the address of a backend.
func checkBackendIsNotOurselves(l *Loaded) {
	for _, b := range l.BackendSections() {
		backHost, backPort, err := net.SplitHostPort(b.Address)
		if err != nil {
			continue // a resolver's name, a socket, or nothing
		}
		if slices.ContainsFunc(l.Listen, func(ln Listener) bool { return reaches(backHost, backPort, ln.Address) }) {
			l.refuse(b.Section+".address", "is the port on which culvert itself listens: change it, or change listen (--listen)")
		}
	}
}

// The keepalive.EnforcementPolicy of a grpc-go server has a default MinTime of
// 5 minutes.
func checkKeepalive(l *Loaded) {
	for _, b := range l.BackendSections() {
		if d := b.Keepalive; d > 0 && d < 5*time.Minute {
			l.warn(b.Section+".keepalive", "is less than 5m: an ordinary gRPC server closes connections that ping more often, so make sure that this backend allows it")
		}
	}
}
