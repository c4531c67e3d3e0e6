package bridge

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// namesOf returns the names of whoever has the connection. They are read once
// where the connection is one of this package's.
func namesOf(c net.Conn, state *tls.ConnectionState) *gate.ClientNames {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	client := clientUnder(c)
	if client == nil {
		return gate.NamesOf(state)
	}
	n := client.names.Load()
	if n == nil {
		n = gate.NamesOf(state)
		client.names.Store(n)
	}
	return n
}

// clientCertHeader carries client certificates as Envoy does.
const clientCertHeader = "x-forwarded-client-cert"

// vouchCertificate adds who the client is by its certificate, behind what a
// trusted proxy says of its own client, or removes all of that.
//
// It fails if the names make the metadata larger than the limit. They are never
// cut: a backend that takes a single URI for an identity would read one out of a
// list that was cut to one.
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
	if size := metadataBytes(md); a.peer.Client != nil && size > limit.Bytes {
		f := tooMuchMetadata("request", size, limit)
		f.Text += fmt.Sprintf("; %d of them are the names in the client's certificate (%s)", codec.FieldBytes(clientCertHeader, md[clientCertHeader][0]), clientCertHeader)
		return f
	}
	return nil
}
