package bridge

import "github.com/culvert-grpc/culvert/bridge/internal/gate"

const misdirectedText = "this connection's SNI name has other rules for client certificates than this host: open a new connection for this host"

// misdirected reports whether a request names a host whose rules for client
// certificates differ from those of its connection. A client that needs no certificate
// for one host must not reach the other over that connection. Browsers send such
// requests if a certificate is valid for both hosts. RFC 9110 §7.4, §15.5.20.
func (a *arrival) misdirected() bool {
	l, state := a.listening, a.peer.TLS
	if l.SamePolicy == nil || state == nil || state.ServerName == a.host {
		return false
	}
	host, _, _ := gate.ParseAuthority(a.host) // it is valid, or there is none
	return state.ServerName != host && !l.SamePolicy(state.ServerName, a.local, host)
}
