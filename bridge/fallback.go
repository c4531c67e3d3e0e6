package bridge

import (
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// This file decides which requests go to the fallback, and with which header: to a web
// server, or to a handler of an embedder's. Requests that a transport accepts never do,
// except JSON and protobuf that may be meant for the web server and not for Connect.

// fallsBack reports whether a request that is no call goes to the fallback. culvert keeps
// attempts at a call, and answers them with the mistake in them: a web server's answer
// would hide why the calls of a client fail. Inside a tunnel, all requests are attempts
// at calls. TRACE would show a page what culvert adds to requests.
func (a *arrival) fallsBack(r *http.Request) bool {
	return (a.policy.fallback != nil || a.s.cfg.Fallback != nil) && !a.tunnel && r.Method != http.MethodTrace && !a.attemptsCall(r)
}

// attemptsCall reports whether a request looks like a call that went wrong: on its way,
// or in its client. Only its header and the form of its path tell.
func (a *arrival) attemptsCall(r *http.Request) bool {
	h := r.Header
	switch {
	case a.route.bare() != nil:
	case slices.ContainsFunc(h["Content-Type"], isCallType):
	case len(h["X-Grpc-Web"]) > 0, len(h["Connect-Protocol-Version"]) > 0:
	case rules.HasToken(h["Sec-Websocket-Protocol"], "grpc-websockets"), rules.HasToken(h["Sec-Websocket-Protocol"], tunnelName):
		// Its Upgrade is missing: a proxy has removed it.
	default:
		method, ok := a.pathMethod()
		return ok && (r.Method == http.MethodGet && hasConnectQuery(r) || a.meansMethod(r, method))
	}
	return true
}

// meansMethod reports whether a path like that of a method is one. JSON and protobuf are a
// call if the backend has the method, as far as its descriptors are known.
func (a *arrival) meansMethod(r *http.Request, method string) bool {
	if to := a.backend(); to != nil && r.Method == http.MethodPost && isUnaryType(gate.MediaType(r)) {
		if has, known := to.Knows(method); has || known {
			return has
		}
	}
	return routing.NamesService(method)
}

// backend returns the backend of the request if it is a call, or nil.
func (a *arrival) backend() *upstream.Upstream {
	backend := a.policy.router.unrouted
	if a.route != nil {
		backend = a.route.backend
		if split := a.route.split; split != nil {
			backend = split.Targets()[0].Backend // all have the same methods
		}
	}
	return a.policy.router.upstreams.Get(backend)
}

// hintAtMethod logs that the fallback gets what is probably a call: the backend has the
// service of its path, and not the method.
func (a *arrival) hintAtMethod(r *http.Request) {
	method, ok := a.pathMethod()
	to := a.backend()
	if !ok || to == nil || r.Method != http.MethodPost || !isUnaryType(gate.MediaType(r)) {
		return
	}
	unknown := to.Lacks(method)
	if unknown == nil {
		return
	}
	a.s.refusals.Hint("the fallback gets a request that looks like a call", a.peer.Addr, r.Method+" "+method[:min(len(method), 256)]+" "+gate.MediaType(r), func() string {
		hint := "the backend has no method " + unknown.Method
		if near := unknown.Near(); len(near) > 0 {
			hint += ": did the client mean " + near[0] + "?"
		}
		return hint
	})
}

// isCallType reports whether a content type is one of calls, also with a mistake in it.
func isCallType(contentType string) bool {
	t := strings.ToLower(strings.TrimSpace(contentType))
	return strings.HasPrefix(t, "application/grpc") || strings.HasPrefix(t, "application/connect+")
}

// pathMethod returns the method that a request's path has by its form, or by its route.
// Below the prefix of a route, the path has it after the prefix, also if the route is
// for other transports or metadata.
func (a *arrival) pathMethod() (method string, ok bool) {
	if a.route == nil && a.policy.routes != nil {
		if path, _ := routing.ParsePath(a.path, a.policy.pathPrefix); !a.policy.routes.table.Below(path) {
			return routing.ParseMethod(a.path, a.policy.pathPrefix)
		}
	}
	return a.Method, a.Method != ""
}

// isPreflight reports whether a browser asks for permission in the name of a page.
// https://fetch.spec.whatwg.org/#cors-preflight-request
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && len(r.Header["Origin"]) > 0 && r.Header.Get("Access-Control-Request-Method") != ""
}

// forCall reports whether a preflight asks for a call. The web server answers the
// others, by rules of its own. Every web client of gRPC announces a header of its
// protocol, but for pages that write the request themselves.
func (a *arrival) forCall(r *http.Request) bool {
	switch r.Header.Get("Access-Control-Request-Method") {
	case http.MethodPost:
	case http.MethodGet:
		_, ok := a.pathMethod()
		return ok && hasConnectQuery(r)
	default:
		return false
	}
	for _, line := range r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if name == "x-grpc-web" || strings.HasPrefix(name, "grpc-") || strings.HasPrefix(name, "connect-") {
				return true
			}
		}
	}
	method, ok := a.pathMethod()
	return ok && routing.NamesService(method)
}

// answerPreflight answers a preflight for a call.
func (a *arrival) answerPreflight(w http.ResponseWriter, r *http.Request) {
	gate.VaryPreflight(w.Header())
	if a.originAllowed(w, r) {
		gate.Preflight(w, r, a.origin, headers.Crosses)
	}
}

// fallbackHeader returns the header that the web server gets: the fields of the client's that
// reach it, and culvert's own.
func (a *arrival) fallbackHeader(r *http.Request, id string) (http.Header, error) {
	header := headers.Fallback(r.Header, a.trusted, a.policy.vouched)
	if a.policy.bearerSubprotocol && header["Sec-Websocket-Protocol"] != nil {
		header["Sec-Websocket-Protocol"] = withoutBearer(r.Header)
	}
	if gate.IsUpgrade(r) {
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	md := make(metadata.MD)
	if err := a.vouch(md, r.Header, report.SizeLimit{Bytes: a.policy.limits.HeaderBytes, Key: report.KeyHeaderBytes}); err != nil {
		return nil, err
	}
	for name, values := range md {
		header[http.CanonicalHeaderKey(name)] = values
	}
	header["X-Real-Ip"] = []string{gate.HostOf(a.peer.Addr)}
	header["X-Request-Id"] = []string{id}
	return header, nil
}
