package bridge

import (
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// This file has what a program asks about a configuration, without a Server.

// ShadowedRoutes returns the routes that no request gets, because other routes match all of
// their requests and win, or because none of the ways in accepts their transports. ways are
// all that there are. Of routes with mistakes it returns none.
func ShadowedRoutes(routes []Route, ways []report.Way) []report.Shadow {
	list := make([]routing.Route, len(routes))
	for i := range routes {
		list[i] = routes[i].row()
	}
	table, err := routing.New(list)
	if err != nil {
		return nil
	}
	return table.Shadowed(ways)
}

// RefusedBy returns the keys ("methods.allow", "methods.deny") by which a Server with the
// configuration certainly refuses all calls of the route, or none.
func (r *Route) RefusedBy(cfg *Config) []string {
	return routing.RefusedBy(r.Outgoing(), cfg.AllowMethods, cfg.DenyMethods, cfg.TryMethods)
}

// AnswersTo reports whether a listener on loopback answers to some host that a pattern of
// Match.Hosts matches. hosts are those of Config.
func AnswersTo(hosts []string, pattern string) bool {
	pattern, err := rules.RouteHost(pattern)
	if err != nil || pattern == "" || Unforgeable(strings.TrimPrefix(pattern, ".")) {
		return err == nil
	}
	for _, own := range hosts {
		name, _, _ := gate.ParseAuthority(strings.ToLower(own))
		if name == pattern || pattern[0] == '.' && strings.HasSuffix(name, pattern) {
			return true
		}
	}
	return false
}

// Unforgeable reports whether a Host names an IP address or localhost: a page can't point
// such a host at another server (DNS rebinding).
func Unforgeable(host string) bool { return gate.Unforgeable(host) }

// ConnBytes is what culvert counts for a connection from a client without calls, in bytes.
const ConnBytes = memory.ConnBytes

// ParseDescriptors reads the descriptors in a FileDescriptorSet, as protoc and buf write
// it, of at most MaxDescriptorBytes. An error says what is wrong with it.
func ParseDescriptors(set []byte) (Descriptors, error) {
	parsed, err := descriptor.Parse(set)
	if err != nil {
		return nil, err
	}
	return parsed, nil
}

// MaxDescriptorBytes is the most that a FileDescriptorSet may have.
const MaxDescriptorBytes = descriptor.MaxSetBytes
