package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// checkRoutes finds mistakes in routes that involve other sections. Package bridge
// finds the others, with the same names of keys.
func checkRoutes(l *Loaded) {
	for i := range l.Routes {
		r, at := &l.Routes[i], Entry("routes", i)
		checkRouteListeners(l, r, at)
		checkRouteOrigins(l, r, at)
		if !checkRemovedPrefix(l, r, at) {
			checkKeptPrefix(l, r, at)
		}
	}
}

// ListenerNames returns the names of the listeners, as routes and the log have them.
// The name of an only listener may be "".
func (c *Config) ListenerNames() []string {
	names := make([]string, len(c.Listen))
	for i, l := range c.Listen {
		if names[i] = l.Name; len(c.Listen) > 1 {
			names[i] = cmp.Or(l.Name, l.Address)
		}
	}
	return names
}

func checkRouteListeners(l *Loaded, r *Route, at string) {
	known := l.ListenerNames()
	for _, name := range r.Match.Listeners {
		switch {
		case name != "" && slices.Contains(known, name):
		case len(known) == 1 && known[0] == "":
			l.refuse(at+".match.listeners", "names no listener: the only listener has no name; set listen[0].name, or remove this key")
		default:
			l.refuse(at+".match.listeners", "names no listener: there is no %q; use one of %s", name, strings.Join(known, ", "))
		}
	}
}

// checkRouteOrigins is checkWildcardOrigin for a route.
func checkRouteOrigins(l *Loaded, r *Route, at string) {
	if !slices.Contains(r.AllowOrigins, "*") {
		return
	}
	key := at + ".allow_origins"
	l.warn(key, `"*" allows every page on the internet to call: list the origins, unless the route is for everyone`)
	if l.Metadata.ForwardCookies || l.Metadata.ForwardSetCookies {
		l.refuse(key, `cookies don't pass while it has "*": list the origins, or set metadata.forward_cookies and metadata.forward_set_cookies to false`)
	}
}

// checkNamesOfGets warns of calls by GET that a page may read by DNS rebinding. On
// loopback and over TLS it can't.
func checkNamesOfGets(l *Loaded) {
	if len(l.Hosts) > 0 {
		return
	}
	warn := func(key string, listeners []string, takes string) {
		if at := l.foreignNames(listeners); at >= 0 {
			l.warn(key, takes+" GET over plaintext ("+l.Place(Entry("listen", at)+".address")+"), so any page can read the answers by a DNS name that points to culvert: list culvert's own names in hosts (--host)")
		}
	}
	if len(l.Connect.Get) > 0 {
		warn("connect.get", nil, "lets clients call by")
	}
	for i, r := range l.Routes {
		if r.Message.Framing == rules.FramingSSE || r.Message.Framing == rules.FramingNDJSON {
			warn(Entry("routes", i)+".message.framing", r.Match.Listeners, "takes")
		}
	}
}

// foreignNames returns the index of a listener among the named, or among all, that a page
// can reach by a name of its own, or -1.
func (l *Loaded) foreignNames(listeners []string) int {
	names := l.ListenerNames()
	for i, ln := range l.Listen {
		if !ln.TLS.Enabled && ln.beyondThisHost() && (len(listeners) == 0 || slices.Contains(listeners, names[i])) {
			return i
		}
	}
	return -1
}

// checkRemovedPrefix warns of a prefix that repeats the file's path_prefix. It reports
// whether it did.
func checkRemovedPrefix(l *Loaded, r *Route, at string) bool {
	rest, repeats := strings.CutPrefix(r.Match.PathPrefix, l.PathPrefix)
	if l.PathPrefix == "" || !repeats || rest != "" && rest[0] != '/' {
		return false
	}
	remedy := fmt.Sprintf("write %q", rest)
	if rest == "" {
		remedy = "remove it"
	}
	l.warn(at+".match.path_prefix", fmt.Sprintf("matches only paths that begin with %q, because culvert removes path_prefix first: %s", l.PathPrefix+r.Match.PathPrefix, remedy))
	return true
}

// checkKeptPrefix warns of a prefix that looks as if it should be removed: without
// rewrite, its first element is the service.
func checkKeptPrefix(l *Loaded, r *Route, at string) {
	service := strings.TrimPrefix(r.Match.PathPrefix, "/")
	if r.Rewrite.PathPrefix == "" && service != "" && !strings.ContainsAny(service, "./") {
		l.warn(at+".match.path_prefix", fmt.Sprintf(`matches only methods of the service %q, because the backend receives the path as it is: to remove the prefix, set rewrite.path_prefix to "/"`, service))
	}
}

func warnOfUnusedBackends(l *Loaded) {
	used := map[string]bool{}
	for _, r := range l.Routes {
		used[r.Backend] = true
		for _, t := range r.Split {
			used[t.Backend] = true
		}
	}
	for i, b := range l.Backends {
		if !used[b.Name] {
			l.warn(Entry("backends", i), "gets no calls, because no route names it: add a route, or remove the entry")
		}
	}
}
