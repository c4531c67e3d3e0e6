package bridge

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// The Connect protocol has two forms: unary calls are plain HTTP (transport_connect_unary.go),
// and streams are framed like gRPC-Web's (connectStream). https://connectrpc.com/docs/protocol

const connectName = "connect" // among the transports

// connectRules are what a policy says about the Connect protocol.
type connectRules struct {
	pass bool                   // messages in JSON go to the backend as they are, those of gRPC-Web, too
	get  routing.MethodPatterns // of the methods that may be called by GET
}

// isConnect accepts the requests of the Connect protocol. With a fallback, only those
// that attemptsCall finds are calls.
func isConnect(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost:
		t := gate.MediaType(r)
		return isUnaryType(t) || isStreamType(t)
	case http.MethodGet:
		return hasConnectQuery(r)
	}
	return false
}

func isUnaryType(mediaType string) bool {
	return mediaType == "application/proto" || mediaType == "application/json"
}

func isStreamType(mediaType string) bool {
	return strings.HasPrefix(mediaType, connectStream.contentType+"+")
}

// hasConnectQuery reports whether a URL is that of a unary call by GET, in any version of
// the protocol.
func hasConnectQuery(r *http.Request) bool {
	var version, more bool
	for parameter := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		switch name {
		case "connect":
			version = true
			more = more || len(value) > 1 && value[0] == 'v' && strings.Trim(value[1:], "0123456789") == ""
		case "encoding", "message":
			more = true
		}
	}
	return version && more
}

// connectMistake returns why culvert can't serve a request of the Connect protocol for a
// method's path, or nil.
func connectMistake(r *http.Request, _ *arrival) *report.Fault {
	switch t := gate.MediaType(r); {
	case r.Method == http.MethodGet && r.ContentLength > 0:
		return likely(http.StatusUnsupportedMediaType, "a GET request of the Connect protocol has no body")
	case isStreamType(t) && t != "application/connect+proto" && t != "application/connect+json":
		return likely(http.StatusUnsupportedMediaType, "this content type is not a call's: use "+callTypes, "Accept-Post", callTypes)
	}
	return nil
}

// openConnect opens a call of the Connect protocol.
func openConnect(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	if r.Method == http.MethodPost && isStreamType(gate.MediaType(r)) {
		return connectStream.open(w, r, c)
	}
	return openUnary(w, r, c)
}

// connectRefusal returns the body of an HTTP refusal in the form whose status a Connect
// client shows. It returns "" if the request isn't a unary Connect call, or for 405, which
// no code of Connect goes with. https://connectrpc.com/docs/protocol#error-end-stream
func connectRefusal(r *http.Request, httpStatus int, text string) (body string) {
	post := r.Header.Get("Connect-Protocol-Version") != "" && isUnaryType(gate.MediaType(r))
	if !post && (r.Method != http.MethodGet || !hasConnectQuery(r)) || httpStatus == http.StatusMethodNotAllowed {
		return ""
	}
	code := codec.CodeFromHTTP(httpStatus)
	if httpStatus == http.StatusUnsupportedMediaType { // connectMistake's
		code = codes.Unimplemented
	}
	_, json := codec.ConnectError(status.New(code, "culvert: "+text))
	return string(json) + "\n"
}
