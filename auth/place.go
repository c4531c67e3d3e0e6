package auth

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/bridge"
)

// A place is where a credential was.
type place uint8

const (
	inAuthorization place = iota
	inCookie
	inSubprotocol
	inKeyHeader
	inCertificate // Peer has it
)

// A credential came with a call or with its connection.
type credential struct {
	place  place
	ofCall bool
	text   string // a bearer token or an API key; "": it isn't one
	wrong  string // why nobody can judge it, for the client; "": somebody may

	foreign *identity.Refusal // why no issuer takes the token; nil: nobody asked, or one does
	opaque  bool              // because it is no JWT: it may be an API key
}

// Format hides the text whatever the verb is.
func (credential) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "a credential") }

const (
	severalValues  = "the call has several values of authorization: send one credential"
	severalCookies = "the cookie with the token occurs twice: delete the one of the other path or domain"
	severalKeys    = "the call has several API keys: send one"
)

// places says where the credentials are that an Authenticator takes.
type places struct {
	cookie    string // its name; "": none
	keyHeader string // the metadata with an API key; "": none
}

// of appends the credentials of a request, in the order of their rank: an earlier place is
// harder to forge, or better hidden from logs.
func (p *places) of(list []credential, c *bridge.Credentials, ofCall bool) []credential {
	switch len(c.Authorization) {
	case 0:
	case 1:
		list = append(list, credential{place: inAuthorization, ofCall: ofCall, text: bearer(c.Authorization[0])})
	default:
		list = append(list, credential{place: inAuthorization, ofCall: ofCall, wrong: severalValues})
	}
	if p.cookie != "" && len(c.Cookie) > 0 {
		switch value, several := cookieOf(c.Cookie, p.cookie); {
		case several:
			list = append(list, credential{place: inCookie, ofCall: ofCall, wrong: severalCookies})
		case value != "":
			list = append(list, credential{place: inCookie, ofCall: ofCall, text: value})
		}
	}
	if c.Bearer != "" {
		list = append(list, credential{place: inSubprotocol, ofCall: ofCall, text: c.Bearer})
	}
	return list
}

// ofKey appends the API key in the metadata of a call.
func (p *places) ofKey(list []credential, md metadata.MD) []credential {
	if p.keyHeader == "" {
		return list
	}
	switch values := md[p.keyHeader]; len(values) {
	case 0:
		return list
	case 1:
		return append(list, credential{place: inKeyHeader, ofCall: true, text: values[0]})
	default:
		return append(list, credential{place: inKeyHeader, ofCall: true, wrong: severalKeys})
	}
}

// bearer returns the token of an authorization, or "" if it has another scheme, no token or
// more behind it. RFC 6750 §2.1, RFC 9110 §11.2. A token with other bytes than token68 has is
// returned, too: no way takes it, and a look at each byte would cost more than its hash.
func bearer(authorization string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	token = strings.Trim(token, " ")
	if strings.Contains(token, " ") || strings.Contains(token, ",") {
		return ""
	}
	return token
}

// checkCookie checks the name of the cookie with a token.
func (cfg *Config) checkCookie() *Mistake {
	switch {
	case cfg.Cookie == "":
	case len(cfg.Issuers) == 0 && cfg.External == nil:
		return mistake("cookie", "is set, and nothing judges its token: configure an issuer or a service, or remove it")
	case strings.ContainsFunc(cfg.Cookie, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, c) }): // RFC 6265 §4.1.1
		return mistake("cookie", "is %q, which can't name a cookie: use letters, digits, - and _", cfg.Cookie)
	}
	return nil
}

// cookieOf returns the value of a cookie in the values of the field. several reports that it
// occurs with two values: a page of another host of the domain can add one, and which of them
// comes first is the browser's business.
func cookieOf(fields []string, name string) (value string, several bool) {
	for _, field := range fields {
		for pair := range strings.SplitSeq(field, ";") {
			n, v, has := strings.Cut(pair, "=")
			if v = unquoted(strings.Trim(v, " \t")); !has || v == "" || strings.Trim(n, " \t") != name {
				continue
			}
			if value != "" && value != v {
				return "", true
			}
			value = v
		}
	}
	return value, false
}

// unquoted returns a cookie's value without quotes around it. RFC 6265 §4.1.1.
func unquoted(value string) string {
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		return value[1 : len(value)-1]
	}
	return value
}

// withoutCookie returns the values of the field without a cookie, or nil if no other is left.
func withoutCookie(fields []string, name string) (left []string) {
	for _, field := range fields {
		var kept []string
		for pair := range strings.SplitSeq(field, ";") {
			n, _, _ := strings.Cut(pair, "=")
			if pair = strings.Trim(pair, " \t"); pair != "" && strings.Trim(n, " \t") != name {
				kept = append(kept, pair)
			}
		}
		if len(kept) > 0 {
			left = append(left, strings.Join(kept, "; "))
		}
	}
	return left
}
