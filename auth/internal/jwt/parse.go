package jwt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/object"
)

// MaxTokenBytes bounds a token. Larger ones don't fit into the header fields of most servers.
const MaxTokenBytes = 16 << 10

const maxKeyIDBytes = 256

// A candidate is a token of which nothing is proven yet.
type candidate struct {
	algorithm, keyID, typ string // judge.go says which algorithms and types count
	issuer                string
	claims                object.Object
	bytes                 int // of the claims' text
}

// parse reads a token in the compact serialization (RFC 7515 §7.1).
func parse(token string) (*candidate, *Error) {
	if len(token) > MaxTokenBytes {
		return nil, invalid(fmt.Sprintf("the token is over %d KiB", MaxTokenBytes>>10), nil)
	}
	switch strings.Count(token, ".") {
	case 2:
	case 4: // RFC 7516 §7.1. Some providers encrypt for themselves what others call opaque tokens.
		return nil, refusal(Opaque, "the token is encrypted (JWE): a signed one (JWS) is needed", nil)
	default:
		return nil, refusal(Opaque, "not a JWT: the token doesn't have three parts with dots between them", nil)
	}
	protected, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	header, err := part(protected)
	if err != nil {
		return nil, invalid("the token's header isn't one of a JWT", err)
	}
	c := &candidate{}
	if err := c.header(header); err != nil {
		return nil, err
	}
	claims, err := part(payload)
	if err != nil {
		return nil, invalid("the token's claims aren't those of a JWT", err)
	}
	if c.claims, err = object.Parse(claims); err != nil {
		return nil, invalid("the token's claims aren't those of a JWT", err)
	}
	c.bytes = len(claims)
	if signature == "" {
		return nil, invalid("the token isn't signed", nil)
	}
	if _, err := part(signature); err != nil {
		return nil, invalid("the token's signature isn't one of a JWT", err)
	}
	if c.issuer, err = name(c.claims, "iss"); err != nil {
		return nil, invalid("the token names no issuer (iss)", err)
	}
	return c, nil
}

// base64url has the bytes of an encoded part. RFC 7515 §2: no padding, no white space. Go's
// decoder would skip line breaks.
var base64url = func() (in [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		in[c] = true
	}
	return in
}()

// part decodes a part of a token. It refuses bits behind the last byte, so that no two texts
// decode to the same bytes.
func part(encoded string) ([]byte, error) {
	for i := range len(encoded) {
		if !base64url[encoded[i]] {
			return nil, fmt.Errorf("the character %q isn't one of base64url", encoded[i])
		}
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errors.New("not canonical base64url")
	}
	return data, nil
}

// refusedHeaders are header parameters with which a token is refused, and why. The others that
// point to keys (jku, x5u) and certificates (x5t, x5t#S256) are never read, as RFC 8725 §3.10
// asks: issuers do send them.
var refusedHeaders = []struct{ name, text string }{
	{"crit", "the token has critical header parameters (crit), and none is known here"}, // RFC 7515 §4.1.11
	{"b64", "the token's payload is unencoded (b64)"},                                   // RFC 7797 §7: not in JWTs
	{"enc", "the token is encrypted (enc): a signed one is needed"},
	{"zip", "the token is compressed (zip)"},
	{"jwk", "the token brings a key (jwk): keys come from the issuer alone"}, // a DPoP proof, or forged
	{"x5c", "the token brings certificates (x5c): keys come from the issuer alone"},
}

func (c *candidate) header(data []byte) *Error {
	h, err := object.Parse(data)
	if err != nil {
		return invalid("the token's header isn't one of a JWT", err)
	}
	for _, refused := range refusedHeaders {
		if _, has := h[refused.name]; has {
			return invalid(refused.text, nil)
		}
	}
	const wrong = "the token's header isn't one of a JWT"
	if c.algorithm, _, err = h.Text("alg"); err != nil || c.algorithm == "" {
		return invalid("the token's header names no algorithm (alg)", err)
	}
	if c.keyID, _, err = h.Text("kid"); err != nil {
		return invalid(wrong, err)
	}
	if len(c.keyID) > maxKeyIDBytes {
		return invalid(wrong, fmt.Errorf("its kid is over %d bytes", maxKeyIDBytes))
	}
	if c.typ, _, err = h.Text("typ"); err != nil {
		return invalid(wrong, err)
	}
	c.typ = mediaType(c.typ)
	content, _, err := h.Text("cty")
	if err != nil {
		return invalid(wrong, err)
	}
	if mediaType(content) == "jwt" { // RFC 7519 §5.2
		return invalid("the token has another one inside (cty)", nil)
	}
	return nil
}

// mediaType returns a type in lower case, without application/ if there is no other slash
// (RFC 7515 §4.1.9).
func mediaType(text string) string {
	text = strings.ToLower(text)
	if short, cut := strings.CutPrefix(text, "application/"); cut && !strings.Contains(short, "/") {
		return short
	}
	return text
}
