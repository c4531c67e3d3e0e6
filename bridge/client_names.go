package bridge

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/gate"
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
func (a *arrival) vouchCertificate(md metadata.MD, h http.Header, forward bool) {
	delete(md, clientCertHeader)
	if !forward {
		return
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
}
