package bridge

import (
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/routing"
)

// A mistake is the answer to a request that isn't a call.
type mistake struct {
	code    int
	text    string
	headers []string // names and values in turn

	// likely reports whether a client of this server probably made the mistake. Every
	// web server gets the other kind of request.
	likely bool
}

// setHeaders sets names and values in turn.
func setHeaders(h http.Header, pairs []string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
}

// mistakeIn returns the mistake in a request that matches no transport.
func (a *arrival) mistakeIn(r *http.Request) *mistake {
	if _, isMethod := a.pathMethod(r); !isMethod {
		return a.policy.wrongPath(r, false)
	}
	switch {
	case r.Method == http.MethodGet:
		name := routing.LastElements(r.URL.EscapedPath())[1:]
		if len(name) > 256 {
			name = "of its last two elements"
		}
		m := noUpgrade(r, "this is the path of the gRPC method "+name+", not of a page: call it by POST or WebSocket, for example by a POST of JSON with the content type application/json")
		m.likely = false
		return m
	case r.Method != http.MethodPost:
		return &mistake{http.StatusMethodNotAllowed, "a call must be a POST", []string{"Allow", "POST"}, false}
	default:
		return &mistake{http.StatusUnsupportedMediaType, "this content type is not a call's: use " + a.policy.callTypes(), a.policy.acceptPost(), false}
	}
}

// noUpgrade returns the mistake of a GET without an upgrade. what describes the path.
func noUpgrade(r *http.Request, what string) *mistake {
	m := &mistake{http.StatusUpgradeRequired, what, []string{"Upgrade", "websocket"}, !isOpened(r)}
	if m.likely {
		m.text += ". If the client asked for a WebSocket, a proxy on the way has removed the Upgrade header: allow WebSocket upgrades there"
	}
	return m
}

// isOpened reports whether a browser asks for a page: its address bar, or a link.
func isOpened(r *http.Request) bool {
	if len(r.Header["Sec-Websocket-Key"])+len(r.Header["Sec-Websocket-Protocol"])+len(r.Header["Sec-Websocket-Version"]) > 0 {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" { // over HTTPS, and to localhost
		return mode == "navigate"
	}
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// wrongPath returns the mistake of a path that isn't a method's. call reports whether
// the rest of the request looks like a call.
func (p *policy) wrongPath(r *http.Request, call bool) *mistake {
	want := p.pathPrefix + "/package.Service/Method"
	if meant := routing.DidYouMean(r.URL.EscapedPath(), p.pathPrefix, call); meant != "" {
		return &mistake{http.StatusNotFound, "the path is not a method's: did you mean " + meant + "? Check the client's base URL for a path or a slash at its end (path_prefix)", nil, true}
	}
	if call {
		return &mistake{http.StatusNotFound, "the path is not a method's: want " + want, nil, false}
	}
	return &mistake{http.StatusNotFound, "there is nothing here: calls go to " + want, nil, false}
}
