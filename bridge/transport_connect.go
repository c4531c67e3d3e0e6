package bridge

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/codec"
)

// culvert doesn't serve the Connect protocol. It recognizes Connect requests, to tell
// their clients what to do. https://connectrpc.com/docs/protocol

const notSpoken = " isn't supported: use createGrpcWebTransport instead of createConnectTransport, or another gRPC-Web client"

// connectMistake returns the mistake of a Connect request for a method's path. It
// returns nil for other requests.
func connectMistake(r *http.Request) *mistake {
	contentType := mediaType(r)
	switch {
	case isConnect(contentType) && r.Method == http.MethodPost:
		return &mistake{http.StatusUnsupportedMediaType, contentType + notSpoken, acceptPost, true}
	case isConnectGet(r):
		return &mistake{http.StatusMethodNotAllowed, "Connect" + notSpoken, []string{"Allow", "POST"}, true}
	}
	return nil
}

// isConnectGet reports whether a request is a unary Connect call by GET.
func isConnectGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains("&"+r.URL.RawQuery+"&", "&connect=v1&")
}

// isConnect reports whether a media type is one of the Connect protocol's.
func isConnect(mediaType string) bool {
	switch mediaType {
	case "application/json", "application/proto", "application/connect+json", "application/connect+proto":
		return true
	}
	return false
}

// connectRefusal returns the body of an HTTP refusal in the form whose status a Connect
// client shows. It returns "" if the request isn't a unary Connect call.
// https://connectrpc.com/docs/protocol#error-end-stream
func connectRefusal(r *http.Request, httpStatus int, text string) (body string) {
	unary := mediaType(r)
	if r.Header.Get("Connect-Protocol-Version") == "" || unary != "application/json" && unary != "application/proto" {
		return ""
	}
	code := codec.CodeFromHTTP(httpStatus)
	if httpStatus == http.StatusUnsupportedMediaType { // connectMistake's: the protocol isn't served
		code = codes.Unimplemented
	}
	_, json := codec.ConnectError(status.New(code, "culvert: "+text))
	return string(json) + "\n"
}
