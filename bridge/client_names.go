package bridge

import (
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// clientCertHeader carries client certificates as Envoy does.
const clientCertHeader = "x-forwarded-client-cert"

// vouchCertificate adds the names in the client's certificate, after those that a
// trusted proxy gives for its own client, or removes all of them.
//
// It fails if the names make the metadata larger than the limit. It never cuts the
// names: in a list cut to one URI, a backend would see a single identity.
func (a *arrival) vouchCertificate(md metadata.MD, h http.Header, forward bool, limit report.SizeLimit) error {
	delete(md, clientCertHeader)
	if !forward {
		return nil
	}
	var said []string
	if a.trusted {
		for _, v := range h["X-Forwarded-Client-Cert"] {
			if v != "" && codec.ValidValue(v) {
				said = append(said, v)
			}
		}
	}
	if a.peer.Client != nil {
		said = append(said, a.peer.Client.Forwarded())
	}
	if len(said) > 0 {
		md[clientCertHeader] = []string{strings.Join(said, ",")}
	}
	if size := headers.Size(md); a.peer.Client != nil && size > limit.Bytes {
		f := headers.TooLarge("request", size, limit)
		f.Text += fmt.Sprintf("; %d of them are the names in the client's certificate (%s)", codec.FieldBytes(clientCertHeader, md[clientCertHeader][0]), clientCertHeader)
		return f
	}
	return nil
}
