package jwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/object"
	"github.com/culvert-grpc/culvert/codec"
)

const (
	maxNameBytes     = 1024 // of iss and sub
	maxMetadataBytes = 4096 // of a value
	identityBytes    = 240  // that a Token costs, roughly
	fieldBytes       = 80   // that metadata costs besides its value, roughly
	lastDate         = 253402300799
)

// token checks the claims of a token whose signature was verified, and returns what they say.
func (i *Issuer) token(c *candidate, now time.Time) (*Token, *Error) {
	t := &Token{Identity: &identity.Identity{Issuer: c.issuer, Kind: identity.JWT}}
	for _, check := range []func(*Token, *candidate) *Error{
		func(t *Token, c *candidate) *Error { return i.dates(t, c.claims, now) },
		i.audience, subject, scopes, bind, i.required, i.metadata,
	} {
		if err := check(t, c); err != nil {
			return nil, err
		}
	}
	t.bytes += identityBytes + t.Prepare() + c.bytes + 16*(len(t.Audience)+len(t.Scopes))
	return t, nil
}

// dates checks exp, nbf and iat (RFC 7519 §4.1.4 to §4.1.6).
func (i *Issuer) dates(t *Token, claims object.Object, now time.Time) *Error {
	expires, has, err := date(claims, "exp")
	switch {
	case err != nil:
		return invalid("the token's exp isn't a date", err)
	case !has && !i.Endless:
		return invalid("the token has no end (exp)", nil)
	case has:
		t.Expires = expires.Add(i.Skew)
		if !now.Before(t.Expires) {
			return refusal(Expired, "the token has expired: get a new one", fmt.Errorf("its exp was %s", utc(expires)))
		}
	}
	for _, name := range []string{"nbf", "iat"} {
		from, has, err := date(claims, name)
		if err != nil {
			return invalid(fmt.Sprintf("the token's %s isn't a date", name), err)
		}
		if has && now.Add(i.Skew).Before(from) {
			return invalid(fmt.Sprintf("the token isn't valid yet (%s): check the clocks", name), fmt.Errorf("it is %s", utc(from)))
		}
	}
	return nil
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// quoted returns the first of some names, for an error.
func quoted(names []string) string {
	const most = 3
	var list []string
	for _, name := range names[:min(len(names), most)] {
		list = append(list, object.Quote(name))
	}
	if len(names) > most {
		list = append(list, "…")
	}
	return strings.Join(list, ", ")
}

// date reads a NumericDate (RFC 7519 §2): seconds since 1970, which may have a fraction.
func date(claims object.Object, name string) (_ time.Time, present bool, err error) {
	value, present := claims[name]
	if !present {
		return time.Time{}, false, nil
	}
	number, is := value.(json.Number)
	if !is {
		return time.Time{}, true, errors.New("not a number")
	}
	seconds, err := strconv.ParseFloat(number.String(), 64)
	if err != nil || seconds < 0 || seconds > lastDate {
		return time.Time{}, true, errors.New("not between 1970 and 9999")
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true, nil
}

// audience checks aud (RFC 7519 §4.1.3, RFC 8725 §3.9).
func (i *Issuer) audience(t *Token, c *candidate) *Error {
	var is bool
	if t.Audience, is = names(c.claims["aud"]); !is {
		return invalid("the token names no audience (aud): a text or a list of texts is needed", nil)
	}
	if !slices.ContainsFunc(i.Audiences, t.For) {
		return t.ForOthers()
	}
	return nil
}

// ForOthers returns the error of a token that isn't for the audience of a call.
func (t *Token) ForOthers() *Error {
	return invalid("the token is for another service (aud): get one for this service", fmt.Errorf("its aud is %s", quoted(t.Audience)))
}

// names returns a string, or the strings of a list that isn't empty.
func names(value any) ([]string, bool) {
	if text, is := value.(string); is {
		return []string{text}, true
	}
	list, _ := value.([]any)
	texts := make([]string, len(list))
	for i, member := range list {
		var is bool
		if texts[i], is = member.(string); !is {
			return nil, false
		}
	}
	return texts, len(texts) > 0
}

func subject(t *Token, c *candidate) *Error {
	var err error
	if t.Subject, err = name(c.claims, "sub"); err != nil {
		return invalid("the token names nobody (sub)", err)
	}
	return nil
}

// name reads iss or sub, which become identities and go into logs.
func name(claims object.Object, claim string) (string, error) {
	text, has, err := claims.Text(claim)
	switch {
	case err != nil:
		return "", err
	case !has || text == "":
		return "", fmt.Errorf("%s is missing or empty", claim)
	case len(text) > maxNameBytes:
		return "", fmt.Errorf("%s is over %d bytes", claim, maxNameBytes)
	case strings.ContainsFunc(text, control):
		return "", fmt.Errorf("%s has control characters", claim)
	}
	return text, nil
}

// control reports whether c would break a line, or hide a part of one.
func control(c rune) bool {
	return unicode.IsControl(c) || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp)
}

// scopes reads scope (RFC 8693 §4.2, RFC 9068 §2.2.3) and scp, which others send. Either is a
// text with blanks or a list.
func scopes(t *Token, c *candidate) *Error {
	for _, claim := range []string{"scope", "scp"} {
		value, has := c.claims[claim]
		if !has {
			continue
		}
		if text, is := value.(string); is {
			t.Scopes = append(t.Scopes, strings.Fields(text)...)
			continue
		}
		list, is := names(value)
		if empty, isList := value.([]any); !is && (!isList || len(empty) > 0) {
			return invalid(fmt.Sprintf("the token's %s is neither a text nor a list of texts", claim), nil)
		}
		t.Scopes = append(t.Scopes, list...)
	}
	return nil
}

func bind(t *Token, c *candidate) (err *Error) {
	t.bound, err = confirmation(c.claims)
	return err
}

func (i *Issuer) required(t *Token, c *candidate) *Error {
	for n := range i.Required {
		if r := &i.Required[n]; !r.MetBy(c.claims) {
			return refusal(Denied, fmt.Sprintf("the token's claim %s isn't there, or hasn't a value that is needed", r.Claim), nil)
		}
	}
	for _, scope := range i.Scopes {
		if !slices.Contains(t.Scopes, scope) {
			return refusal(Denied, fmt.Sprintf("the token lacks the scope %q: get one with it", scope), nil)
		}
	}
	return nil
}

// metadata makes metadata of claims. It leaves out a claim as a whole whose value isn't legal,
// since one that is cut, trimmed or split says something else than the token.
func (i *Issuer) metadata(t *Token, c *candidate) *Error {
	for _, m := range i.Metadata {
		value, legal := metadataValue(m.Claim.Find(c.claims))
		if !legal {
			continue
		}
		if t.Metadata == nil {
			t.Metadata = make(map[string][]string, len(i.Metadata))
		}
		t.Metadata[m.Name] = []string{value}
		t.bytes += len(value) + fieldBytes
	}
	return nil
}

// metadataValue returns the value of metadata that says the same as a claim.
func metadataValue(found any) (value string, legal bool) {
	values, is := claim.Texts(found)
	if !is {
		return "", false
	}
	_, isList := found.([]any)
	for _, value := range values {
		if value == "" || strings.Trim(value, " ") != value || !codec.ValidValue(value) || isList && strings.Contains(value, ",") {
			return "", false
		}
	}
	value = strings.Join(values, ",")
	return value, value != "" && len(value) <= maxMetadataBytes
}
