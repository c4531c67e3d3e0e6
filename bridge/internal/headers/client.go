package headers

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// ClientCert is the metadata with the names in client certificates, as Envoy has it.
const ClientCert = "x-forwarded-client-cert"

// UserAgent is the metadata with the client's User-Agent.
const UserAgent = "x-forwarded-user-agent"

// SetUserAgent adds the client's User-Agent to metadata.
func SetUserAgent(md metadata.MD, h http.Header) {
	if ua := h.Get("User-Agent"); codec.ValidValue(ua) && ua != "" {
		md[UserAgent] = []string{ua}
	}
}

// SetForwarding sets the facts that culvert itself confirms about the way of a request.
func SetForwarding(md metadata.MD, f gate.Forwarding) {
	delete(md, "forwarded") // a trusted proxy's, which culvert sends on anew
	values := []string{f.For, f.Proto, f.Host, f.Via}
	for i, name := range [...]string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via"} {
		if codec.ValidValue(values[i]) && values[i] != "" {
			md[name] = values[i : i+1 : i+1]
		} else {
			delete(md, name)
		}
	}
}

// SetClientCert sets the names in the client's certificate, which may be nil, after those
// that the header of a trusted proxy gives for its own client.
//
// It fails if the names make the metadata larger than the limit. It never cuts the
// names: in a list cut to one URI, a backend would see a single identity.
func SetClientCert(md metadata.MD, h http.Header, trusted bool, names *report.ClientNames, limit report.SizeLimit) error {
	delete(md, ClientCert)
	var said []string
	if trusted {
		said = slices.DeleteFunc(slices.Clone(h["X-Forwarded-Client-Cert"]), func(v string) bool { return v == "" || !codec.ValidValue(v) })
	}
	if names != nil {
		said = append(said, names.Forwarded())
	}
	if len(said) > 0 {
		md[ClientCert] = []string{strings.Join(said, ",")}
	}
	if size := Size(md); names != nil && size > limit.Bytes {
		f := TooLarge("request", size, limit)
		f.Text += fmt.Sprintf("; %d of them are the names in the client's certificate (%s)", codec.FieldBytes(ClientCert, md[ClientCert][0]), ClientCert)
		return f
	}
	return nil
}
