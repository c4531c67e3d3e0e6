package bridge

import (
	"net/http"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// webHeader returns the header that the web server gets: the fields of the client's that
// reach it, and culvert's own.
func (a *arrival) webHeader(r *http.Request, id string) (http.Header, error) {
	header := headers.Web(r.Header, a.trusted, a.policy.vouched)
	if isUpgrade(r) {
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
