package fallback

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// LoopHeader recognizes requests to the web server that come back, perhaps by way of other
// culverts. It has the token of each server that has sent the request to its web server. A
// token is random, so a client can't make its request look like one that has come back.
const LoopHeader = "Culvert-Fallback"

// MaxTokens bounds how many there may be. Behind a load balancer each instance has a token
// of its own, so a request may come to many before it comes back to one.
const MaxTokens = 8

// Passed returns the LoopHeader of a request for the web server, with the token of this
// server, or why the request goes no further. h is the client's header.
func Passed(h http.Header, own string) (string, error) {
	tokens := loopTokens(h)
	switch {
	case slices.Contains(tokens, own):
		return "", report.New(report.ReasonFallbackLoop, "the web server ("+report.Named(report.KeyFallback)+") leads back to this server").Because(errors.New(report.ReasonFallbackLoop.Row().Remedy))
	case len(tokens) >= MaxTokens: // no fault of this server's: a client can write them
		return "", report.Newf(report.ReasonBadRequest, "the request has passed %d servers, which is the limit", len(tokens))
	}
	return strings.Join(append(tokens, own), ", "), nil
}

// loopTokens returns what looks like a token in a header, and at most MaxTokens. Proxies
// may join the values of a field.
func loopTokens(h http.Header) (tokens []string) {
	for _, line := range h[LoopHeader] {
		for token := range strings.SplitSeq(line, ",") {
			token = strings.TrimSpace(token)
			if len(token) == tokenBytes && strings.Trim(token, "0123456789abcdef") == "" && len(tokens) < MaxTokens {
				tokens = append(tokens, token)
			}
		}
	}
	return tokens
}

const tokenBytes = 16
