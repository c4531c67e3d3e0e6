package binding

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Transport is the name of the transport that carries bare messages.
const Transport = "message"

// A Route is a MessageRoute that is ready for use.
type Route struct {
	report.MessageRoute
	MethodPath string // Method as calls have it, "/package.Service/Method", or "" if the path names it
	PollPath   string // the method of polls as calls have it; "": they have none of their own
}

// InJSON reports whether the messages are JSON.
func (r *Route) InJSON() bool {
	return r.Framing == report.FramingJSON || r.OverHTTP()
}

// OverHTTP reports whether the path takes no WebSockets.
func (r *Route) OverHTTP() bool {
	return r.Framing == report.FramingSSE || r.Framing == report.FramingNDJSON
}

// Methods returns the Method and PollMethod of m, as far as they are set, without a slash
// before them.
func Methods(m *report.MessageRoute) []string {
	var methods []string
	for _, name := range []string{m.Method, m.PollMethod} {
		if name != "" {
			methods = append(methods, strings.TrimPrefix(name, "/"))
		}
	}
	return methods
}

// WithQuery returns the request with the parameters of its URL that become metadata as
// fields of its header. A field that the header has counts more. lost reports that one of
// these parameters can't be read.
func (r *Route) WithQuery(in *http.Request) (out *http.Request, lost bool) {
	if len(r.Query) == 0 || in.URL.RawQuery == "" {
		return in, false
	}
	query, err := url.ParseQuery(in.URL.RawQuery)
	if err != nil && slices.ContainsFunc(strings.Split(in.URL.RawQuery, "&"), r.losesIn) {
		return in, true
	}
	out = in.WithContext(in.Context())
	out.Header = in.Header.Clone()
	for _, name := range r.Query {
		if field := http.CanonicalHeaderKey(name); len(out.Header[field]) == 0 && len(query[name]) > 0 {
			out.Header[field] = slices.Clone(query[name])
		}
	}
	return out, false
}

// losesIn reports whether net/url leaves a part of a query out that has a parameter which
// becomes metadata. A semicolon separated parameters once.
func (r *Route) losesIn(part string) bool {
	if _, err := url.ParseQuery(part); err == nil {
		return false
	}
	for one := range strings.SplitSeq(part, ";") {
		name, _, _ := strings.Cut(one, "=")
		if plain, err := url.QueryUnescape(name); err == nil && slices.Contains(r.Query, plain) {
			return true
		}
	}
	return false
}
