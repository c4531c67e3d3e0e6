package doctor

import (
	"encoding/json"
	"fmt"
	"time"
)

// A Probe is one question to the network.
type Probe string

// The probes, in the order in which a report has them.
const (
	probeDNS          Probe = "dns"
	probeConnect      Probe = "connect"         // TCP, and CONNECT to the proxy
	probeTLS          Probe = "tls"             // the handshake, and whether the certificate holds
	probeDecryption   Probe = "decryption"      // does anybody on the way decrypt TLS
	probeALPN         Probe = "alpn"            // h2 and http/1.1 offered
	probeALPNAlone    Probe = "alpn-h2"         // h2 offered alone
	probeHTTP2        Probe = "http2"           // the peer's SETTINGS, and the answer to a PING
	probeGRPC         Probe = "grpc"            // a unary call of native gRPC
	probeGRPCStream   Probe = "grpc-stream"     // a server stream
	probeGRPCBidi     Probe = "grpc-bidi"       // both directions at the same time
	probeSocket       Probe = "websocket"       // the handshake
	probeSocketHTTP2  Probe = "websocket-http2" // SETTINGS and PING inside
	probeSocketBidi   Probe = "websocket-bidi"
	probeWeb          Probe = "grpc-web" // HTTP/1.1, a request with Content-Length
	probeWebChunked   Probe = "grpc-web-chunked"
	probeWebStream    Probe = "grpc-web-stream"
	probeWebBidi      Probe = "grpc-web-bidi"
	probeTypeConnect  Probe = "type-connect" // application/connect+proto
	probeTypeJSON     Probe = "type-json"    // application/json
	probeLargeBody    Probe = "large-body"
	probeLargeHeader  Probe = "large-header"
	probeService      Probe = "service" // culvert.v1.Path/Report
	probePreflight    Probe = "preflight"
	probePage         Probe = "page" // the page's Content-Security-Policy, and mixed content
	probeIdleSocket   Probe = "idle-websocket"
	probeIdlePing     Probe = "idle-websocket-ping"
	probeIdleOneWay   Probe = "idle-websocket-one-way"
	probeIdleAnswered Probe = "idle-websocket-answered"
	probeIdleGRPC     Probe = "idle-grpc"
	probeIdleGRPCBusy Probe = "idle-grpc-answered"
	probeIdleWeb      Probe = "idle-grpc-web"
	probeIdleWebBusy  Probe = "idle-grpc-web-answered"
)

var order = []Probe{
	probeDNS, probeConnect, probeTLS, probeDecryption, probeALPN, probeALPNAlone, probeHTTP2, probeGRPC, probeGRPCStream, probeGRPCBidi,
	probeSocket, probeSocketHTTP2, probeSocketBidi, probeWeb, probeWebChunked, probeWebStream, probeWebBidi,
	probeTypeConnect, probeTypeJSON, probeLargeBody, probeLargeHeader, probeService, probePreflight, probePage,
	probeIdleSocket, probeIdlePing, probeIdleOneWay, probeIdleAnswered, probeIdleGRPC, probeIdleGRPCBusy, probeIdleWeb, probeIdleWebBusy,
}

// A Result is what became of a probe.
type Result string

// The results.
const (
	works    Result = "works"
	refused  Result = "refused"  // an answer that says no
	stripped Result = "stripped" // it arrived without the part that matters
	present  Result = "found"    // what the probe looks for is there
	held     Result = "held"     // bytes arrived only when their sender had ended
	silent   Result = "silent"   // no answer in time
	cut      Result = "cut"      // the connection was closed or reset
	failed   Result = "failed"
	unknown  Result = "can't tell"
)

// A Finding is the result of a probe.
type Finding struct {
	Probe    Probe         `json:"probe"`
	Result   Result        `json:"result"`
	Cause    Cause         `json:"cause,omitempty"`
	Evidence string        `json:"evidence,omitempty"` // printable, without secrets
	Answer   *Answer       `json:"answer,omitempty"`   // that isn't what the probe wants; nil: none
	After    time.Duration `json:"-"`                  // until the cut, for idle connections
	Took     time.Duration `json:"-"`
}

// A Cause says more of a result, for the verdict.
type Cause string

// The causes.
const (
	causeProxyUnreachable  Cause = "proxy-unreachable"
	causeProxySilent       Cause = "proxy-silent"
	causeProxyLogin        Cause = "proxy-login"          // it wants a user and a password
	causeProxyLoginWrong   Cause = "proxy-login-wrong"    // it doesn't take these
	causeProxyLoginForeign Cause = "proxy-login-unspoken" // it wants NTLM, Kerberos or Digest
	causeProxyRefuses      Cause = "proxy-refuses"
	causeProxyFails        Cause = "proxy-fails"
	causeNotTLS            Cause = "not-tls"
	causeUnknownCA         Cause = "unknown-ca"
	causeWrongCertificate  Cause = "wrong-certificate"
	causeWantsCertificate  Cause = "wants-certificate" // of the client, and one that the edge trusts
	causeHTTP1             Cause = "http/1.1"          // where HTTP/2 was agreed on
	causeNoPong            Cause = "no-pong"           // SETTINGS came, and no answer to a PING
	causeNoTrailers        Cause = "no-trailers"
	causeUnimplemented     Cause = "unimplemented" // the service isn't there: another server, or an older culvert
	causeUnauthenticated   Cause = "unauthenticated"
	causeQuota             Cause = "quota"
	causeServiceRefuses    Cause = "service-refuses" // for another reason of its own
	causeOriginDenied      Cause = "origin-denied"
	causeHostUnknown       Cause = "host-unknown"    // the service doesn't know its name
	causeServiceHTTP1      Cause = "http/1.1-behind" // a proxy before the service speaks HTTP/1.1 to it
	causeDecrypted         Cause = "decrypted"
	causeEndsBefore        Cause = "ends-before-service" // at a CDN or a load balancer with a public certificate
	causeNoSCT             Cause = "no-scts"
	causePolicyBlocks      Cause = "policy-blocks"
	causeMixedContent      Cause = "mixed-content"
	causeUnreachable       Cause = "unreachable"
	causeHidden            Cause = "hidden" // a browser doesn't show it to pages

	// For these it can't be told whether what a probe asks for passes.
	causeRateLimited  Cause = "rate-limited"  // by somebody else than the service
	causeGatewayFails Cause = "gateway-fails" // before the service
	causeWantsTLS     Cause = "wants-tls"     // in place of plaintext
	causeOtherSite    Cause = "other-site"    // a page, a redirect or a login where a call's answer should be
	causeNoConnection Cause = "no-connection" // after others have been opened
	causeSlow         Cause = "slow"          // no answer in time, where others needed nearly as long
)

// findings are those of a run, one for each probe that was made.
type findings map[Probe]Finding

// list has the findings in the order of a report.
func (f findings) list() []Finding {
	list := make([]Finding, 0, len(f))
	for _, p := range order {
		if found, ok := f[p]; ok {
			list = append(list, found)
		}
	}
	return list
}

func (f findings) works(p Probe) bool { return f[p].Result == works }

// found makes a Finding, of a probe that its caller adds, with evidence in the form of fmt.
func found(r Result, evidence string, args ...any) Finding {
	if len(args) > 0 {
		evidence = fmt.Sprintf(evidence, args...)
	}
	return Finding{Result: r, Evidence: evidence}
}

func (f Finding) because(c Cause) Finding {
	f.Cause = c
	return f
}

func (f Finding) of(p Probe) Finding {
	f.Probe = p
	return f
}

// MarshalJSON has times in seconds.
func (f Finding) MarshalJSON() ([]byte, error) {
	type plain Finding
	seconds := func(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }
	return json.Marshal(struct { //nolint:wrapcheck // it has no causes of its own
		plain
		After float64 `json:"after_seconds,omitempty"`
		Took  float64 `json:"took_seconds"`
	}{plain(f), seconds(f.After), seconds(f.Took)})
}
