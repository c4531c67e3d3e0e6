package bridge

import (
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// This file makes the header that the web server gets.

// webHeader returns the header that the web server gets: the client's, but for fields of
// one connection and those that only culvert and trusted proxies may set, and culvert's
// own.
func (a *arrival) webHeader(r *http.Request, id string) (http.Header, error) {
	hop := headers.ConnectionNames(r.Header)
	header := make(http.Header, len(r.Header)+8)
	for name, values := range r.Header {
		lower := strings.ToLower(name)
		if (!hop[lower] || lower == "te") && headers.ReachesWeb(lower, a.trusted) && !a.policy.vouched.Strikes(lower, a.trusted) {
			header[name] = values
		}
	}
	delete(header, "Connection")
	delete(header, "Upgrade") // no other protocol: h2c would let the client speak for culvert
	delete(header, "Http2-Settings")
	delete(header, "Forwarded")
	if isUpgrade(r) {
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	md := make(metadata.MD)
	a.vouch(md)
	if err := a.vouchCertificate(md, r.Header, a.policy.forwardClientCert, report.SizeLimit{Bytes: a.policy.limits.HeaderBytes, Key: report.KeyHeaderBytes}); err != nil {
		return nil, err
	}
	delete(header, "X-Forwarded-Client-Cert")
	for name, values := range md {
		header[http.CanonicalHeaderKey(name)] = values
	}
	header["X-Real-Ip"] = []string{gate.HostOf(a.peer.Addr)}
	header["X-Request-Id"] = []string{id}
	return header, nil
}

// webHeaderBytes returns the size of a header as HTTP/2 counts it.
func webHeaderBytes(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += codec.FieldBytes(name, v)
		}
	}
	return n
}
