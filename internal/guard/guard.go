// Package guard is an Authenticator for tests: its tokens say themselves who calls, until when,
// and what is wrong with them.
package guard

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
)

// Claims are what a token says.
type Claims struct {
	Sub  string     `json:"sub"`
	Exp  float64    `json:"exp"`            // in seconds of Unix time; 0: it doesn't expire
	Code codes.Code `json:"code,omitempty"` // of the error that refuses it; 0: it is accepted
	Hang bool       `json:"hang,omitempty"` // it is judged when the context ends
}

// Token returns a JWT without a signature.
func (c Claims) Token() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic("BUG: claims that are no JSON: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + "."
}

// Token returns that of a caller, until then.
func Token(sub string, until time.Time) string {
	return Claims{Sub: sub, Exp: float64(until.UnixMilli()) / 1e3}.Token()
}

// Guard is the Authenticator. A call needs a token of its own or of its connection.
type Guard struct{}

// AuthenticateConn judges the authorization of a connection.
func (Guard) AuthenticateConn(ctx context.Context, r *bridge.ConnRequest) (*bridge.ConnIdentity, error) {
	id, err := identify(ctx, r.Credentials.Authorization)
	return &bridge.ConnIdentity{Identity: id}, err
}

// Authenticate judges a call.
func (Guard) Authenticate(ctx context.Context, r *bridge.AuthRequest) (*bridge.Identity, error) {
	switch id, err := identify(ctx, r.Own.Authorization); {
	case err != nil || id != nil:
		return id, err
	case r.Conn != nil && r.Conn.Identity != nil:
		return r.Conn.Identity, nil
	}
	return nil, status.Error(codes.Unauthenticated, "no token")
}

func identify(ctx context.Context, authorization []string) (*bridge.Identity, error) {
	if len(authorization) == 0 {
		return nil, nil
	}
	parts := strings.Split(authorization[0], ".")
	var c Claims
	if len(parts) == 3 {
		text, _ := base64.RawURLEncoding.DecodeString(parts[1]) // then it is no JSON
		_ = json.Unmarshal(text, &c)                            // then it has no Sub
	}
	switch {
	case c.Hang:
		<-ctx.Done()
		return nil, context.Cause(ctx)
	case c.Code != codes.OK:
		return nil, status.Error(c.Code, "the token says so")
	case c.Sub == "":
		return nil, status.Error(codes.Unauthenticated, "no such token")
	}
	id := &bridge.Identity{Name: c.Sub, Issuer: "guard"}
	if c.Exp != 0 {
		id.Expires = time.UnixMilli(int64(c.Exp * 1e3))
	}
	return id, nil
}
