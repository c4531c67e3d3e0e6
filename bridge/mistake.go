package bridge

import (
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// mistake returns the fault of a request that isn't a call, as every web server gets them.
// header has names and values in turn.
func mistake(status int, text string, header ...string) *report.Fault {
	reason := report.ReasonBadRequest
	if status == http.StatusNotFound {
		reason = report.ReasonNoRoute
	}
	return &report.Fault{Reason: reason, Text: text, HTTP: status, Header: header}
}

// likely is mistake for a request that a client of this server has probably meant as a
// call.
func likely(status int, text string, header ...string) *report.Fault {
	f := mistake(status, text, header...)
	f.Likely = true
	return f
}

// mistakeIn returns the mistake in a request that matches no transport.
func (a *arrival) mistakeIn(r *http.Request) *report.Fault {
	if _, isMethod := a.pathMethod(); !isMethod {
		return a.policy.wrongPath(r, false)
	}
	switch {
	case r.Method == http.MethodGet:
		name := routing.LastElements(r.URL.EscapedPath())[1:]
		if len(name) > 256 {
			name = "of its last two elements"
		}
		m := noUpgrade(r, "this is the path of the gRPC method "+name+", not of a page: call it by POST or WebSocket, for example by a POST of JSON with the content type application/json")
		m.Likely = false
		return m
	case r.Method != http.MethodPost:
		return mistake(http.StatusMethodNotAllowed, "a call must be a POST", "Allow", "POST")
	default:
		return mistake(http.StatusUnsupportedMediaType, "this content type is not a call's: use "+callTypes, "Accept-Post", callTypes)
	}
}

// noUpgrade returns the mistake of a GET without an upgrade. what describes the path.
func noUpgrade(r *http.Request, what string) *report.Fault {
	m := mistake(http.StatusUpgradeRequired, what, "Upgrade", "websocket")
	if m.Likely = !isOpened(r); m.Likely {
		m.Text += ". If the client asked for a WebSocket, a proxy on the way has removed the Upgrade header: allow WebSocket upgrades there"
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
func (p *policy) wrongPath(r *http.Request, call bool) *report.Fault {
	want := p.pathPrefix + "/package.Service/Method"
	if meant := routing.DidYouMean(r.URL.EscapedPath(), p.pathPrefix, call); meant != "" {
		return likely(http.StatusNotFound, "the path is not a method's: did you mean "+meant+"? Check the client's base URL for a path or a slash at its end ("+report.Named(report.KeyPathPrefix)+")")
	}
	if call {
		return mistake(http.StatusNotFound, "the path is not a method's: want "+want)
	}
	return mistake(http.StatusNotFound, "there is nothing here: calls go to "+want)
}
