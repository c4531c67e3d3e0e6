package bridge

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A routeCompiler makes a route of a Route.
type routeCompiler struct {
	cfg      *Config
	vouched  headers.VouchedNames
	backends map[string]bool
	index    int
	mistakes []error
}

func (c *routeCompiler) wrong(key, text string) {
	c.mistakes = append(c.mistakes, &report.RouteMistake{Route: c.index, Key: key, Text: text, Other: -1})
}

func (c *routeCompiler) compile(r *Route) route {
	made := route{name: r.Name, backend: r.Backend, treatment: &treatment{
		sticky: strings.ToLower(r.Sticky), authority: r.Authority,
		messageBytes: r.MessageBytes, headerBytes: r.HeaderBytes, idleTimeout: r.IdleTimeout, maxAge: r.MaxAge,
	}}
	if r.Timeout > 0 {
		f := report.New(report.ReasonDeadlineExceeded, "the call took longer than "+r.Timeout.String()+" ("+report.Named(report.KeyRouteTimeout)+")")
		f.Key, f.Remedy = report.KeyRouteTimeout, "find the slow part, or raise "+report.Named(report.KeyRouteTimeout)
		made.timeout = &routeTimeout{r.Timeout, f}
	}
	c.compileMessage(r, &made)
	c.compileRetry(r, &made)
	c.compileTargets(r, &made)
	for i, m := range r.Match.Metadata {
		if name := strings.ToLower(m.Name); !c.arrives(name) {
			c.wrong(fmt.Sprintf("match.metadata[%d].name", i), "can match no call: culvert doesn't pass on what clients send under this name; docs/reference/metadata.md lists the names that don't cross")
		}
		if !codec.ValidValue(m.Value) || strings.TrimSpace(m.Value) != m.Value {
			c.wrong(fmt.Sprintf("match.metadata[%d].value", i), "can match no call: values of metadata have printable ASCII characters, and no space at either end")
		}
	}
	var struck []string
	for i, v := range r.SetMetadata {
		name := strings.ToLower(v.Name)
		key := fmt.Sprintf("metadata.set[%d]", i)
		if why := c.cantSet(name); why != "" {
			c.wrong(key+".name", why)
			continue
		}
		if !codec.ValidValue(v.Value) || strings.TrimSpace(v.Value) != v.Value { // RFC 9113 §8.2.1
			c.wrong(key+".value", "can't be sent: use printable ASCII characters, without a space at either end")
			continue
		}
		if made.set == nil {
			made.set = metadata.MD{}
		}
		made.set[name] = slices.Clip(append(made.set[name], v.Value))
		struck = append(struck, name)
		made.setBytes += codec.FieldBytes(name, v.Value)
	}
	for i, name := range r.RemoveMetadata {
		switch name = strings.ToLower(name); {
		case !codec.ValidName(name) || strings.HasPrefix(name, "grpc-"):
			c.wrong(fmt.Sprintf("metadata.remove[%d]", i), fmt.Sprintf("%q is no metadata that a client can send: remove the entry", name))
		case made.set[name] != nil:
			c.wrong(fmt.Sprintf("metadata.remove[%d]", i), fmt.Sprintf("%q is in metadata.set, too, which replaces what the client sends: remove the entry", name))
		default:
			struck = append(struck, name)
		}
	}
	if len(struck) > 0 {
		made.struck = headers.NewVouched(struck)
	}
	if r.AllowOrigins != nil {
		c.compileOrigins(r, &made)
	}
	if reflect.ValueOf(*made.treatment).IsZero() {
		made.treatment = &plain
	}
	return made
}

func (c *routeCompiler) compileRetry(r *Route, made *route) {
	retry := r.Retry
	switch {
	case retry.Attempts != 1 && rules.WrongAttempts(retry.Attempts): // 1 is no mistake in Go, where it can be computed
		c.wrong("retry.attempts", rules.AttemptsRange)
	case retry.Attempts > 1:
		if len(retry.Codes) == 0 {
			retry.Codes = []codes.Code{codes.Unavailable}
		}
		made.retry = &retry
	case len(retry.Codes) > 0 || retry.Backoff != 0 || retry.MaxBackoff != 0:
		c.wrong("retry", "has no effect without retry.attempts: set it to 2 or more")
	}
	if slices.Contains(retry.Codes, codes.OK) {
		c.wrong("retry.codes", "has OK, which is no failure: remove it")
	}
}

func (c *routeCompiler) compileTargets(r *Route, made *route) {
	switch {
	case r.Backend == "" && len(r.Split) == 0:
		c.wrong("backend", "must be set, or split in its place: name one of the backends")
		return
	case r.Backend != "" && len(r.Split) > 0:
		c.wrong("backend", "has no effect beside split: remove one of them")
		return
	}
	if r.Backend != "" && !c.backends[r.Backend] {
		c.wrong("backend", c.unknownBackend(r.Backend))
	}
	if len(r.Split) > 0 {
		for i, t := range r.Split {
			if !c.backends[t.Backend] {
				c.wrong(fmt.Sprintf("split[%d].backend", i), c.unknownBackend(t.Backend))
			}
		}
		var err error
		if made.split, err = routing.NewSplit(r.Split); err != nil {
			c.wrong("split", err.Error())
		}
	}
	switch {
	case r.Sticky == "":
	case len(r.Split) == 0:
		c.wrong("sticky", "has no effect without split: remove one of them, or add the other")
	case !c.arrives(made.sticky):
		c.wrong("sticky", "can't select a backend: culvert doesn't pass on what clients send under this name; docs/reference/metadata.md lists the names that don't cross")
	}
}

func (c *routeCompiler) unknownBackend(name string) string {
	all := slices.Sorted(maps.Keys(c.backends))
	return fmt.Sprintf("names no backend: there is no %q; use one of %s", name, strings.Join(all[:min(len(all), 10)], ", "))
}

func (c *routeCompiler) compileOrigins(r *Route, made *route) {
	if len(r.Match.Metadata) > 0 || len(r.Match.Transports) > 0 {
		c.wrong("allow_origins", "can't be set on a route that matches metadata or transports, because a browser's preflight shows neither: set it on a route that matches the same without them, and this route has it, too")
		return
	}
	origins, err := gate.NewOrigins(r.AllowOrigins, c.cfg.Hosts)
	if err != nil {
		c.wrong("allow_origins", err.Error())
		return
	}
	made.origins = &origins
}

// arrives reports whether a call's metadata can have the name when its route is
// selected.
func (c *routeCompiler) arrives(name string) bool {
	if c.vouched.Strikes(name, true) {
		return false // it imitates one of these names
	}
	switch headers.OfRequest(name) {
	case headers.Pass, headers.Vouched:
		return true
	case headers.Cookie:
		return c.cfg.ForwardCookies
	case headers.Drop:
	}
	return name == headers.UserAgent
}

// cantSet returns why a route can't set metadata of the name, or "".
func (c *routeCompiler) cantSet(name string) string {
	switch {
	case !codec.ValidName(name):
		return "is not a name of metadata: use lower-case letters, digits, - _ and ."
	case strings.HasSuffix(name, "-bin"):
		return "is binary metadata, which can't be set: use a name without -bin"
	case c.vouched.Resembles(name) || headers.OfRequest(name) == headers.Vouched:
		return "can't be set: only culvert and trusted proxies may set it; use another name"
	case headers.OfRequest(name) != headers.Pass:
		return "can't be set: it is reserved (docs/reference/metadata.md); use another name"
	}
	return ""
}
