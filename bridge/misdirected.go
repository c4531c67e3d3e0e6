package bridge

import "github.com/culvert-grpc/culvert/bridge/gate"

// keyCertificates is the key that says what clients have to show for a name.
const keyCertificates = "tls.certificates"

const misdirectedText = "this connection was made for another name, of which clients are asked for another certificate: make one for this"

// misdirected holds for a request to a name for which its connection was not
// made, where clients of the two have to show other certificates: whoever
// needs none for the one must not reach the other by it. Browsers send such
// requests where a certificate is good for both. RFC 9110 §7.4, §15.5.20.
func (a *arrival) misdirected() bool {
	l, state := a.listening, a.peer.TLS
	if l.SamePolicy == nil || state == nil || state.ServerName == a.host {
		return false
	}
	host, _, _ := gate.ParseAuthority(a.host) // it is one, or there is none
	return state.ServerName != host && !l.SamePolicy(state.ServerName, host)
}
