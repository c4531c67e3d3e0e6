package bridge

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/binding"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// bearerPrefix begins the WebSocket subprotocol that carries a token, as base64url without
// padding: a page can't set the header of a WebSocket's handshake in any other way. culvert
// never selects it, so the client must offer another one beside it.
const bearerPrefix = binding.BearerPrefix

// maxBearer is the longest token, in bytes.
const maxBearer = 16 << 10

// isBearer reports whether a subprotocol carries a token.
func isBearer(subprotocol string) bool {
	return len(subprotocol) >= len(bearerPrefix) && strings.EqualFold(subprotocol[:len(bearerPrefix)], bearerPrefix)
}

// offered returns the subprotocols that the client of a WebSocket offers: those that carry
// tokens, and the others.
func offered(h http.Header) (bearers, others []string) {
	for _, list := range h["Sec-Websocket-Protocol"] {
		for one := range strings.SplitSeq(list, ",") {
			switch one = strings.Trim(one, " \t"); {
			case isBearer(one):
				bearers = append(bearers, one)
			case one != "":
				others = append(others, one)
			}
		}
	}
	return bearers, others
}

// bearerIn returns the token among the subprotocols that a client offers, or "". The error is
// a *report.Fault. No text has a part of a token.
func bearerIn(h http.Header) (token string, err error) {
	bearers, _ := offered(h)
	if len(bearers) == 0 {
		return "", nil
	}
	if len(bearers) > 1 {
		return "", wrongBearer("the client offers the WebSocket subprotocol " + bearerPrefix + "… twice")
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(bearers[0][len(bearerPrefix):])
	token = string(decoded)
	switch {
	case err != nil:
		return "", wrongBearer("the WebSocket subprotocol " + bearerPrefix + "… must end with the token in base64url, without padding")
	case token == "" || len(token) > maxBearer:
		return "", wrongBearer("the token in the WebSocket subprotocol " + bearerPrefix + "… must have 1 B to 16 KiB")
	case !codec.ValidValue(token):
		return "", wrongBearer("the token in the WebSocket subprotocol " + bearerPrefix + "… must be printable ASCII")
	}
	return token, nil
}

func wrongBearer(text string) error {
	f := report.New(report.ReasonUnauthenticated, text)
	f.Remedy = "offer one token, beside another subprotocol"
	return f
}

// bearerAlone returns the fault of a client that offers a token and no other subprotocol, or
// nil. A browser closes a WebSocket whose server selects none of those that it offers.
func (p *policy) bearerAlone(h http.Header) *report.Fault {
	if !p.bearerSubprotocol || h["Sec-Websocket-Protocol"] == nil {
		return nil
	}
	bearers, others := offered(h)
	if len(bearers) == 0 || len(others) > 0 {
		return nil
	}
	return likely(http.StatusBadRequest, "the client offers no WebSocket subprotocol beside "+bearerPrefix+"…: culvert selects another one, so offer one")
}

// withoutBearer returns the subprotocols but those that carry a token, for a server behind
// culvert.
func withoutBearer(h http.Header) []string {
	_, kept := offered(h)
	if len(kept) == 0 {
		return nil
	}
	return []string{strings.Join(kept, ", ")}
}

// besideBearer returns the first subprotocol that is offered beside one with a token, or "".
func (p *policy) besideBearer(h http.Header) string {
	if !p.bearerSubprotocol {
		return ""
	}
	bearers, others := offered(h)
	if len(bearers) == 0 || len(others) == 0 {
		return ""
	}
	return others[0]
}
