package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"sync"
	"time"
)

// A credential is an authorization, and when it expires; zero: nobody knows.
type credential struct {
	authorization string
	expires       time.Time
}

// tokens asks the program's source of tokens.
type tokens struct {
	source func(context.Context) (token string, expires time.Time, err error)

	mu   sync.Mutex
	last credential
}

// ask returns what the source has now. A token that comes again keeps its time.
func (t *tokens) ask(ctx context.Context) (credential, error) {
	token, expires, err := t.source(ctx)
	if err != nil {
		return credential{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if authorization := "Bearer " + token; authorization != t.last.authorization || !expires.IsZero() {
		if expires.IsZero() {
			expires = expiry(token, time.Now())
		}
		t.last = credential{authorization, expires}
	}
	return t.last, nil
}

// maxToken is the longest token that is read as a JWT, in bytes.
const maxToken = 64 << 10

// expiry returns when a JWT expires, by what it says itself: the edge checks whether that is true.
// It is zero for any other token. RFC 7519 §4.1.4.
func expiry(token string, now time.Time) time.Time {
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 || len(token) > maxToken {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Exp, Iat *float64 }
	if err != nil || json.Unmarshal(text, &claims) != nil || claims.Exp == nil {
		return time.Time{}
	}
	exp, ok := unix(*claims.Exp)
	if !ok {
		return time.Time{}
	}
	if claims.Iat == nil {
		return exp
	}
	// If a token that was just handed out isn't valid now, this machine's clock is wrong.
	if iat, ok := unix(*claims.Iat); ok && iat.Before(exp) && (now.Before(iat) || now.After(exp)) {
		return now.Add(exp.Sub(iat))
	}
	return exp
}

// unix returns a time of so many seconds, if it lies within the next thousands of years.
func unix(seconds float64) (time.Time, bool) {
	if !(seconds >= 0 && seconds < 1e11) {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// callTokens puts a token into each call.
type callTokens struct{ d *Dialer }

func (t callTokens) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	authorization, ok := ctx.Value(refreshKey{}).(string)
	if !ok {
		var err error
		if authorization, err = t.d.Authorization(ctx); err != nil {
			return nil, err
		}
	}
	return map[string]string{"authorization": authorization}, nil
}

func (t callTokens) RequireTransportSecurity() bool { return t.d.target.Secure }
