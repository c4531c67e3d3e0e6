package bridge

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// This file recognizes requests to the web server that come back, perhaps by way of other
// culverts.

// loopHeader has the token of each Server that has sent the request to its web server. A
// token is random, so a client can't make its request look like one that has come back.
const loopHeader = "Culvert-Fallback"

// maxTokens bounds how many there may be. Behind a load balancer each instance has a token of its
// own, so a request may come to many before it comes back to one.
const maxTokens = 8

var errLoop = errors.New(report.ReasonFallbackLoop.Row().Remedy)

// passed returns the loopHeader for the web server, or why the request goes no further.
func (s *Server) passed(r *http.Request) (string, error) {
	tokens := loopTokens(r.Header)
	switch {
	case slices.Contains(tokens, s.loop):
		return "", report.New(report.ReasonFallbackLoop, "the web server (fallback) leads back to this server").Because(errLoop)
	case len(tokens) >= maxTokens: // no fault of this server's: a client can write them
		return "", report.Newf(report.ReasonBadRequest, "the request has passed %d servers, which is the limit", len(tokens))
	}
	return strings.Join(append(tokens, s.loop), ", "), nil
}

// loopTokens returns what looks like a token in a header, and at most maxTokens. Proxies
// may join the values of a field.
func loopTokens(h http.Header) (tokens []string) {
	for _, line := range h[loopHeader] {
		for token := range strings.SplitSeq(line, ",") {
			token = strings.TrimSpace(token)
			if len(token) == tokenBytes && strings.Trim(token, "0123456789abcdef") == "" && len(tokens) < maxTokens {
				tokens = append(tokens, token)
			}
		}
	}
	return tokens
}

// tokenBytes is the length of a token, which newID makes.
const tokenBytes = 16
