package bridge

import (
	"time"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/fallback"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A policy has the rules that judge requests and calls. It never changes. A request
// takes the Server's policy once, when it arrives, and its call keeps it to the end.
// Policies share their counts with those before and after.
type policy struct {
	limits  Limits // with their defaults
	origins gate.Origins
	router  router
	quotas  *quota.Limiter // for connections and calls
	methods methodLimits
	routes  *routes // nil: none
	vouched vouchedNames

	arrivals *arrivals // of the requests that have taken it

	// listenings are the rules of listeners that Apply has changed, by the listener
	// that accepted the connection.
	listenings map[*edge.Listening]*edge.Listening

	web    *fallback.Proxy // nil: there is no web server
	webURL string          // its address

	tryOrigins     bool
	pathPrefix     string
	detailedErrors bool
	drainSpread    time.Duration

	forwardCookies, forwardSetCookies, forwardClientCert bool
}

// listening returns the rules for connections accepted by l.
func (p *policy) listening(l *edge.Listening) *edge.Listening {
	if with, ok := p.listenings[l]; ok {
		return with
	}
	return l
}

// sizes returns the limits of a call's messages and metadata. A method's limit of
// messages replaces the general one. A listener's limit applies last, to every call
// that comes in there.
func (p *policy) sizes(l *edge.Listening, m *methodLimit) (messages, headers report.SizeLimit) {
	messages, headers = report.SizeLimit{Bytes: p.limits.MessageBytes, Key: report.KeyMessageBytes}, report.SizeLimit{Bytes: p.limits.HeaderBytes, Key: report.KeyHeaderBytes}
	if m != nil {
		if m.messageBytes > 0 {
			messages = report.SizeLimit{Bytes: m.messageBytes, Key: report.KeyMethodMessageBytes}
		}
		headers = headers.Or(m.headerBytes, report.KeyMethodHeaderBytes)
	}
	return messages.Or(l.MessageBytes, report.KeyListenerMessageBytes), headers.Or(l.HeaderBytes, report.KeyListenerHeaderBytes)
}
