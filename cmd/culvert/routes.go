package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

func newRoutesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "routes",
		Short:   "Explain which route a request gets",
		Example: `  culvert routes explain https://shop.example.com/shop.v1.Cart/Add --config proxy.yaml`,
		Args:    knownCommand,
		RunE:    showHelp,
	}
	cmd.AddCommand(newRoutesExplainCommand())
	return cmd
}

// An explanation has the flags of routes explain.
type explanation struct {
	settings            *settings
	headers             []string
	listener, transport string
	as                  as
}

func newRoutesExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Explain which route, backend and rules a request gets, and why",
		Long: `explain reads the same file, environment and flags as serve, and prints what
culvert does with a call to the URL. It names the route, the backend, the method that
the backend receives, and the rules. Then it lists the other routes, with the key
that decided against each. With an origin header, it says whether the page may
call. It opens no connection.

With --as, it also says what auth.rules say of the call by an identity, and which of
their conditions match. --as '' is a caller without a credential. If a caller has several,
such as a token and a certificate, write --as for each of them.

The exit code is 1 if no route matches, if the listener refuses the call, or if the
identity in --as may not call.`,
		Example: `  culvert routes explain https://shop.example.com/shop.v1.Cart/Add --config proxy.yaml
  culvert routes explain http://localhost:8080/shop.v1.Cart/Add -H 'x-canary: yes' -H 'origin: https://app.example.com'
  culvert routes explain wss://shop.example.com/shop.v1.Cart/Watch --listener public
  culvert routes explain https://shop.example.com/shop.v1.Cart/Add --as alice,issuer=staff,scope=cart.write`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("explain takes one URL, but got %d arguments", len(args))
			}
			return nil
		},
	}
	x := &explanation{settings: addSettings(cmd)}
	flags := cmd.Flags()
	flags.StringArrayVarP(&x.headers, "header", "H", nil, "`header` of the request, such as 'x-canary: yes'; may be repeated")
	flags.StringVar(&x.listener, "listener", "", "`name` of the listener (default the one with the URL's port, or the first)")
	flags.StringVar(&x.transport, "transport", "", "client `protocol`: "+strings.Join(bridge.Transports(), ", ")+" (default message for the path of a route with message, else grpc, or grpc-websockets for ws: and wss:)")
	flags.StringArrayVar(&x.as.texts, "as", nil, "`identity` of the caller: its subject, then issuer=NAME, kind=jwt, api-key, mtls or external, scope=SCOPE for each scope, and claim=NAME=VALUE for each value, separated by commas; may be repeated")
	mustComplete(cmd.RegisterFlagCompletionFunc("as", cobra.NoFileCompletions))
	mustComplete(cmd.RegisterFlagCompletionFunc("transport", cobra.FixedCompletions(bridge.Transports(), cobra.ShellCompDirectiveNoFileComp)))
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return x.run(cmd, args[0]) }
	return cmd
}

func (x *explanation) run(cmd *cobra.Command, target string) error {
	loaded, err := x.settings.load()
	if err != nil {
		return err
	}
	request, err := x.request(target, loaded)
	if err != nil {
		return &misuse{err}
	}
	if err := x.as.parse(loaded); err != nil {
		return &misuse{err}
	}
	cfg := wiring.Bridge(loaded)
	if messages := request; x.transport == "" {
		messages.Transport = "message"
		if a, err := bridge.ExplainRoute(&cfg, messages); err == nil && a.Route >= 0 {
			request = messages
		}
	}
	answer, err := bridge.ExplainRoute(&cfg, request)
	if err != nil {
		return wiring.Placed(err, loaded, loaded)
	}
	var said *auth.Explanation // nil: nobody is authenticated
	if answer.Method != "" && !answer.Own && loaded.Auth.Enabled() {
		found, err := explainAuth(loaded, request, answer, x.as.callers)
		if err != nil {
			return err
		}
		said = &found
	}
	var b strings.Builder
	explain(&b, loaded, &cfg, request, answer, said, &x.as)
	if _, err := fmt.Fprint(cmd.OutOrStdout(), b.String()); err != nil {
		return err
	}
	switch {
	case answer.UnknownHost:
		return errors.New("the listener refuses the call: HTTP status 403 (ORIGIN_DENIED)")
	case answer.Path == "":
		return nil // the web server's
	case !slices.Contains(wiring.WaysIn(loaded), report.Way{Listener: request.Listener, Transport: request.Transport}):
		return errors.New("the listener refuses the call: it ends UNIMPLEMENTED (NO_ROUTE)")
	case answer.Method == "":
		return errors.New("no route matches: the call ends UNIMPLEMENTED (NO_ROUTE)")
	case said != nil && x.as.texts != nil && loaded.Auth.Enforce && said.Lacks != "":
		return errors.New("the call lacks a credential: it ends UNAUTHENTICATED (UNAUTHENTICATED)")
	case said != nil && x.as.texts != nil && !said.Allowed && loaded.Auth.Enforce:
		return errors.New("the caller may not call: the call ends PERMISSION_DENIED (PERMISSION_DENIED)")
	}
	return nil
}

func (x *explanation) request(target string, c *config.Loaded) (bridge.RouteRequest, error) {
	r := bridge.RouteRequest{Header: http.Header{}, Listener: x.listener, Transport: x.transport}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "ws", "wss"}, u.Scheme) {
		return r, fmt.Errorf("%q is no URL of a call: write https://host/package.Service/Method", target)
	}
	r.URL = u
	port := u.Port()
	for _, h := range x.headers {
		name, value, found := strings.Cut(h, ":")
		if !found || strings.TrimSpace(name) == "" {
			return r, errors.New("-H takes a name and a value: 'x-canary: yes'")
		}
		if strings.EqualFold(strings.TrimSpace(name), "host") {
			u.Host = strings.TrimSpace(value)
			continue
		}
		r.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	names := c.ListenerNames()
	at := slices.Index(names, r.Listener)
	switch {
	case r.Listener == "" && len(names) > 0:
		at = listenerAt(c, port)
		r.Listener = names[at]
	case at < 0:
		return r, fmt.Errorf("--listener: there is no %q; the listeners are %s", r.Listener, strings.Join(names, ", "))
	}
	r.Loopback = at >= 0 && wiring.OnlyLocalNames(c.Listen[at])
	if r.Transport == "" {
		r.Transport = "grpc"
		if u.Scheme == "ws" || u.Scheme == "wss" {
			r.Transport = "grpc-websockets"
		}
	}
	if !slices.Contains(bridge.Transports(), r.Transport) {
		return r, fmt.Errorf("--transport: %q is none of %s", r.Transport, strings.Join(bridge.Transports(), ", "))
	}
	return r, nil
}

// listenerAt returns the index of the only listener on the port, else of the first.
func listenerAt(c *config.Loaded, port string) int {
	var at []int
	for i, l := range c.Listen {
		if _, p, err := net.SplitHostPort(l.Address); err == nil && p == port && port != "" {
			at = append(at, i)
		}
	}
	if len(at) != 1 {
		return 0
	}
	return at[0]
}

func explain(b *strings.Builder, c *config.Loaded, cfg *bridge.Config, r bridge.RouteRequest, a *bridge.RouteAnswer, said *auth.Explanation, as *as) {
	w := tabwriter.NewWriter(b, 0, 0, 1, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s:\t%s\n", name, fmt.Sprintf(format, args...))
	}
	listener := cmp.Or(r.Listener, "(unnamed)")
	line("request", "host %s, path %s, listener %s, transport %s", cmp.Or(a.Host, "(none)"), cmp.Or(a.Path, r.URL.EscapedPath(), "/"), listener, r.Transport)
	if a.UnknownHost {
		line("listener", "%s is on loopback and refuses the call with HTTP status 403, because it doesn't know the host %s (hosts)", listener, a.Host)
	}
	if !slices.Contains(wiring.WaysIn(c), report.Way{Listener: r.Listener, Transport: r.Transport}) {
		line("listener", "%s accepts no calls by %s (listen[].transports)", listener, r.Transport)
	}
	switch {
	case a.Path == "":
		line("web server", "%s (fallback), because the path isn't a method's; culvert refuses requests with a call's content-type", cfg.FallbackURL)
	case a.Method == "":
		line("route", "none matches")
	case a.Own:
		line("route", "none, because culvert answers culvert.v1.Path itself")
	case a.Route < 0:
		line("route", "none, because the configuration has no routes")
		line("backend", "%s", a.Backend)
	default:
		explainRoute(line, c, &cfg.Routes[a.Route], a)
	}
	if a.Method != "" {
		explainRules(line, c, cfg, r, a)
	}
	if said != nil {
		explainCaller(line, c, said, as)
	}
	_ = w.Flush() // a strings.Builder doesn't fail
	explainCandidates(b, c, a)
	if said != nil && as.texts != nil {
		explainAuthRules(b, c, said)
	}
}

// explainRoute writes what the route itself does.
func explainRoute(line func(name, format string, args ...any), c *config.Loaded, route *bridge.Route, a *bridge.RouteAnswer) {
	line("route", "%s (%s)", route.Name, c.Place(config.Entry("routes", a.Route)))
	switch {
	case len(route.Split) == 0:
		line("backend", "%s", a.Backend)
	case a.Backend != "":
		line("backend", "%s, by the value of %s, of %s", a.Backend, route.Sticky, shares(route.Split))
	default:
		line("backend", "at random, by weight: %s", shares(route.Split))
	}
	if route.Authority != "" {
		line("authority", "%s", route.Authority)
	}
	for _, v := range route.SetMetadata {
		line("metadata", "sets %s", v.Name)
	}
	if len(route.RemoveMetadata) > 0 {
		line("metadata", "removes %s", strings.Join(route.RemoveMetadata, ", "))
	}
	if route.Timeout > 0 {
		line("timeout", "%v at most", route.Timeout)
	}
	for _, l := range []struct {
		key string
		d   time.Duration
	}{{"idle_timeout", route.IdleTimeout}, {"max_age", route.MaxAge}} {
		switch {
		case l.d > 0:
			line(l.key, "%v, in place of limits.%s", l.d, l.key)
		case l.d < 0:
			line(l.key, "none, in place of limits.%s", l.key)
		}
	}
	if route.Retry.Attempts > 1 {
		line("retry", "%d attempts at most, after %s", route.Retry.Attempts, cmp.Or(strings.Join(c.Routes[a.Route].Retry.Codes, ", "), "UNAVAILABLE"))
	}
}

func shares(split []report.Target) string {
	total := 0
	for _, t := range split {
		total += t.Weight
	}
	list := make([]string, len(split))
	for i, t := range split {
		list[i] = fmt.Sprintf("%s (%.3g %%)", t.Backend, 100*float64(t.Weight)/float64(total))
	}
	return strings.Join(list, ", ")
}

// explainRules writes which rules judge the call.
func explainRules(line func(name, format string, args ...any), c *config.Loaded, cfg *bridge.Config, r bridge.RouteRequest, a *bridge.RouteAnswer) {
	switch {
	case a.Own && a.Denied != "":
		line("method", "%s, which culvert doesn't have: the call ends UNIMPLEMENTED (NO_ROUTE)", a.Method)
	case a.Denied == "":
		line("method", "%s, which clients can call", a.Method)
	case cfg.TryMethods:
		line("method", "%s, which %s denies; methods.enforce is false", a.Method, a.Denied)
	default:
		line("method", "%s, which %s denies: the call ends UNIMPLEMENTED (NO_ROUTE)", a.Method, a.Denied)
	}
	of, list := "allow_origins", cfg.AllowOrigins
	if a.Origins >= 0 {
		of, list = c.Place(config.Entry("routes", a.Origins)+".allow_origins"), cfg.Routes[a.Origins].AllowOrigins
	}
	line("origins", "%s: [%s]", of, strings.Join(list, ", "))
	switch origin := r.Header.Get("Origin"); {
	case origin == "" && a.Origin == nil:
	case a.Origin == nil:
		line("page", "%s may call", origin)
	case cfg.TryOrigins:
		line("page", "%s may call without cookies, because enforce_origins is false: %v", cmp.Or(origin, "without an origin, it"), a.Origin)
	default:
		line("page", "%s may not call: %v", cmp.Or(origin, "without an origin, it"), a.Origin)
	}
	limits := []string{"limits"}
	if a.MethodLimits >= 0 {
		limits = append(limits, c.Place(config.Entry("limits.methods", a.MethodLimits)))
	}
	if a.Route >= 0 && c.Routes[a.Route].Limits != (config.RouteLimits{}) {
		limits = append(limits, config.Entry("routes", a.Route)+".limits")
	}
	line("limits", "%s", strings.Join(limits, ", "))
}

// How many of the other routes are listed.
const (
	mostMatching = 20
	mostOthers   = 5
)

// explainCandidates writes why the other routes lost.
func explainCandidates(b *strings.Builder, c *config.Loaded, a *bridge.RouteAnswer) {
	if len(a.Candidates) == 0 {
		return
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(b, 0, 0, 1, ' ', 0)
	matching, others, left := 0, 0, 0
	for i, k := range a.Candidates {
		why := ""
		switch {
		case k.Matches && i == 0:
			why = "matches and wins"
		case k.Matches && k.Key == report.OrderOfRoutes:
			why = "matches as specifically, but stands later in the file"
		case k.Matches:
			why = "matches, but less specifically by " + k.Key
		default:
			why = "doesn't match: " + k.Key
		}
		if k.Matches {
			matching++
		} else {
			others++
		}
		if k.Matches && matching > mostMatching || !k.Matches && others > mostOthers {
			left++
			continue
		}
		fmt.Fprintf(w, "%s\t(%s)\t%s\n", c.Routes[k.Route].Name, c.Place(config.Entry("routes", k.Route)), why)
	}
	_ = w.Flush() // a strings.Builder doesn't fail
	if left > 0 {
		fmt.Fprintf(b, "and %d more routes\n", left)
	}
}
