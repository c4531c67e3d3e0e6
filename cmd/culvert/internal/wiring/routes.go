package wiring

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
)

func routes(c *config.Loaded) []bridge.Route {
	var all []bridge.Route
	for i, r := range c.Routes {
		at := config.Entry("routes", i)
		to := bridge.Route{
			Name:           r.Name,
			Match:          report.Match{Hosts: r.Match.Hosts, PathPrefix: r.Match.PathPrefix, Methods: r.Match.Methods, Listeners: r.Match.Listeners, Transports: r.Match.Transports},
			Backend:        r.Backend,
			Sticky:         r.Sticky,
			Rewrite:        r.Rewrite.PathPrefix,
			Authority:      r.Rewrite.Authority,
			RemoveMetadata: r.Metadata.Remove,
			Timeout:        r.Timeout,
			MessageBytes:   int(r.Limits.MessageBytes),
			HeaderBytes:    int(r.Limits.HeaderBytes),
			Limits: bridge.Quota{
				Calls: r.Limits.Calls, CallsPerSecond: r.Limits.CallsPerSecond,
				DecompressedPerSecond: int(r.Limits.DecompressedBytesPerSecond),
			},
			AllowOrigins: r.AllowOrigins,
		}
		if c.IsSet(at + ".idle_timeout") {
			to.IdleTimeout = orNone(r.IdleTimeout)
		}
		if c.IsSet(at + ".max_age") {
			to.MaxAge = orNone(r.MaxAge)
		}
		for _, m := range r.Match.Metadata {
			to.Match.Metadata = append(to.Match.Metadata, report.Condition(m))
		}
		for _, t := range r.Split {
			to.Split = append(to.Split, report.Target(t))
		}
		to.Retry = bridge.Retry{Attempts: r.Retry.Attempts, Backoff: r.Retry.Backoff, MaxBackoff: r.Retry.MaxBackoff}
		for _, name := range r.Retry.Codes {
			var code codes.Code
			if err := code.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil {
				panic("BUG: config takes a status that gRPC doesn't have: " + err.Error())
			}
			to.Retry.Codes = append(to.Retry.Codes, code)
		}
		for _, v := range r.Metadata.Set {
			to.SetMetadata = append(to.SetMetadata, bridge.MetadataValue(v))
		}
		to.Message = messageRoute(&r.Message)
		if c.IsSet(at + ".message.heartbeat") {
			to.Message.Heartbeat = orNone(r.Message.Heartbeat)
		}
		all = append(all, to)
	}
	return all
}

// messageRoute converts a route's part for bare messages. It returns nil if the file
// has none.
func messageRoute(m *config.RouteMessage) *bridge.MessageRoute {
	if m.Path == "" && m.Method == "" && m.Framing == "" {
		return nil
	}
	return &bridge.MessageRoute{
		Path: m.Path, Method: m.Method, Framing: m.Framing, PollMethod: m.PollMethod,
		Subprotocol: m.Subprotocol, Query: m.Query, FirstMessage: m.FirstMessage, Refresh: m.Refresh, HalfClose: m.HalfClose,
		LastStatus: m.LastMessage == "status",
		JSON: report.JSON{
			RejectUnknown: m.UnknownFields == "reject", ProtoNames: m.FieldNames == "proto", EnumNumbers: m.Enums == "numbers", Defaults: m.Defaults,
		},
		BinaryOut: m.JSONOut == "binary", EventID: m.EventID,
	}
}

// routeErrors adds the sources of their keys to the mistakes in routes.
func routeErrors(err error, c *config.Loaded) error {
	return PlacedEach(err, func(one error) error {
		m, ok := errors.AsType[*report.RouteMistake](one)
		if !ok {
			return one
		}
		also := ""
		if m.Other >= 0 {
			also = " (" + c.Place(config.Entry("routes", m.Other)) + ")"
		}
		return c.Errorf(withLine(c, config.Entry("routes", m.Route)+"."+m.Key), "%s%s", m.Text, also)
	})
}

// withLine returns the key that has a line in the file for a mistake: a value in a list
// of plain values has none of its own.
func withLine(c *config.Loaded, key string) string {
	if i := strings.LastIndexByte(key, '['); !c.IsSet(key) && strings.HasSuffix(key, "]") && c.IsSet(key[:i]) {
		return key[:i]
	}
	return key
}

// Warnings returns a warning for each route that gets no call, or whose calls
// culvert refuses.
func Warnings(c *config.Loaded) []string {
	cfg := Bridge(c)
	all := cfg.Routes
	var warnings []string
	shadowed := map[int]bool{}
	for _, s := range bridge.ShadowedRoutes(all, WaysIn(c)) {
		shadowed[s.Route] = true
		why := "no listener that it matches accepts a client protocol that it matches (listen[].transports); change match, or remove the route"
		if s.By >= 0 {
			why = fmt.Sprintf("the route %q (%s) gets all of its calls; change match, or remove one of the routes", all[s.By].Name, c.Place(config.Entry("routes", s.By)))
		}
		warnings = append(warnings, fmt.Sprintf("%s: can never match: %s", c.Place(config.Entry("routes", s.Route)), why))
	}
	for i := range all {
		if keys := all[i].RefusedBy(&cfg); len(keys) > 0 && !shadowed[i] {
			for j, key := range keys {
				keys[j] = c.Place(key)
			}
			warnings = append(warnings, fmt.Sprintf("%s: can never carry a call: culvert refuses all of its methods, by the names that the backend receives (%s); change match or rewrite, change that list, or remove the route", c.Place(config.Entry("routes", i)), strings.Join(keys, ", ")))
		}
	}
	return append(warnings, unansweredHosts(c)...)
}

// unansweredHosts returns a warning for each host of a route to which no listener
// answers.
func unansweredHosts(c *config.Loaded) []string {
	names := c.ListenerNames()
	var warnings []string
	for i, r := range c.Routes {
		everyHost := false // a listener of the route answers to any
		for at, l := range c.Listen {
			takes := len(r.Match.Listeners) == 0 || slices.Contains(r.Match.Listeners, names[at])
			everyHost = everyHost || takes && !OnlyLocalNames(l)
		}
		for _, host := range r.Match.Hosts {
			if !everyHost && !bridge.AnswersTo(c.Hosts, host) {
				warnings = append(warnings, fmt.Sprintf("%s: %q gets no calls: a listener on loopback answers only to local names and to those in hosts; add the name to hosts", c.Place(config.Entry("routes", i)+".match.hosts"), host))
			}
		}
	}
	return warnings
}

// OnlyLocalNames reports whether a listener refuses all hosts but local names and those
// in hosts. The names of certificates also count, so one with TLS isn't judged.
func OnlyLocalNames(l config.Listener) bool {
	host, _, err := net.SplitHostPort(l.Address)
	addr, addrErr := netip.ParseAddr(host)
	return err == nil && !l.TLS.Enabled && (host == "localhost" || addrErr == nil && addr.IsLoopback())
}

// WaysIn returns each listener with each client protocol that it accepts.
func WaysIn(c *config.Loaded) []report.Way {
	var ways []report.Way
	for i, name := range c.ListenerNames() {
		for _, transport := range bridge.Transports() {
			if takes := c.Listen[i].Transports; len(takes) == 0 || slices.Contains(takes, transport) {
				ways = append(ways, report.Way{Listener: name, Transport: transport})
			}
		}
	}
	return ways
}
