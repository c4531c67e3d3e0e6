package opatest

import (
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/check"
	"github.com/culvert-grpc/culvert/e2e/identity/opa"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

//go:embed policy.rego
var policy string

const secret = "a secret of the test's own, which nobody else knows"

// token signs claims with HS256.
func token(claims, secret string) string {
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + enc.EncodeToString(mac.Sum(nil))
}

func options() check.Options {
	reserved := func(name string) bool { return strings.HasPrefix(name, "grpc-") || name == "te" || name == "host" }
	return check.Options{Timeout: check.MaxTimeout, Reserved: reserved, ReservedDown: reserved}
}

func newChecker(t *testing.T, target string, o check.Options) *check.Checker {
	t.Helper()
	c, err := check.NewGRPC(check.GRPC{Target: target}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// same reports whether two answers, which judge a call, are the same.
func same(a, b check.Answer) bool {
	return slices.Equal(a.Request, b.Request) && slices.Equal(a.Response, b.Response) &&
		a.Backend == b.Backend && a.Subject == b.Subject && a.Cached == b.Cached && a.Open == nil && b.Open == nil
}

// call is one with a token, unless that is empty.
func call(method, token string) check.Request {
	r := check.Request{
		Method: method, Authority: "shop.example", Scheme: "https", ID: "c1", Route: "shop",
		Metadata: metadata.MD{"x-tenant": {"forged"}},
	}
	if token != "" {
		r.Metadata["authorization"] = []string{"Bearer " + token}
	}
	return r
}

func TestCallsJudgedByOPA(t *testing.T) {
	_, target := opa.Start(t, "culvert.authz", policy, map[string]any{"secret": secret})
	c := newChecker(t, target, options())
	alice := token(`{"sub":"alice","tenant":"blue","exp":1800000000}`, secret)
	judged := check.Edits{{Name: "x-judged-by", Value: "opa"}}
	byAlice := check.Answer{
		Request:  check.Edits{{Name: "x-tenant", Value: "blue"}, {Name: "authorization", Action: check.Remove}},
		Response: judged, Backend: "blue", Subject: "alice",
	}
	batch := call("/shop.v1.Admin/Rebuild", "")
	batch.Principals = []string{"spiffe://shop/batch"}
	const wanted = "a token is needed"
	for name, row := range map[string]struct {
		call    check.Request
		want    check.Answer
		code    codes.Code
		message string
	}{
		"public":                     {call("/shop.v1.Catalog/List", ""), check.Answer{Response: judged}, 0, ""},
		"public, with a token":       {call("/shop.v1.Catalog/List", alice), byAlice, 0, ""},
		"with a token":               {call("/shop.v1.Orders/Get", alice), byAlice, 0, ""},
		"with a certificate":         {batch, check.Answer{Response: judged}, 0, ""},
		"without a token":            {call("/shop.v1.Orders/Get", ""), check.Answer{}, codes.Unauthenticated, wanted},
		"with a forged token":        {call("/shop.v1.Orders/Get", token(`{"sub":"alice","tenant":"blue"}`, "another")), check.Answer{}, codes.Unauthenticated, wanted},
		"with an expired token":      {call("/shop.v1.Orders/Get", token(`{"sub":"alice","tenant":"blue","exp":1600000000}`, secret)), check.Answer{}, codes.Unauthenticated, wanted},
		"with none of the algorithm": {call("/shop.v1.Orders/Get", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsInRlbmFudCI6ImJsdWUifQ."), check.Answer{}, codes.Unauthenticated, wanted},
		"of another tenant":          {call("/shop.v1.Orders/Get", token(`{"sub":"bob","tenant":"green","exp":1800000000}`, secret)), check.Answer{}, codes.PermissionDenied, "bob may not call /shop.v1.Orders/Get"},
		"another method":             {call("/shop.v1.Admin/Rebuild", alice), check.Answer{}, codes.PermissionDenied, "alice may not call /shop.v1.Admin/Rebuild"},
	} {
		got, err := c.Check(t.Context(), row.call)
		if row.code == codes.OK {
			if err != nil || !same(got, row.want) {
				t.Errorf("%s: got %+v, %v; want %+v", name, got, err, row.want)
			}
			continue
		}
		var r *check.Refusal
		if !errors.As(err, &r) || r.Code != row.code || r.Message != row.message || !reflect.DeepEqual(r.Header, metadata.MD{"x-judged-by": {"opa"}}) {
			t.Errorf("%s: got %+v, %v; want %v %q", name, r, err, row.code, row.message)
		}
	}
}

func TestAnswersOfOPAThatAreCached(t *testing.T) {
	s, target := opa.Start(t, "culvert.authz", policy, map[string]any{"secret": secret})
	o := options()
	o.Names, o.Cache = []string{"authorization"}, check.Cache{TTL: time.Minute}
	c := newChecker(t, target, o)
	alice := token(`{"sub":"alice","tenant":"blue","exp":1800000000}`, secret)
	for i := range 3 {
		got, err := c.Check(t.Context(), call("/shop.v1.Orders/Get", alice))
		if err != nil || got.Subject != "alice" || got.Cached != (i > 0) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	bob := token(`{"sub":"bob","tenant":"green","exp":1800000000}`, secret)
	if got, err := c.Check(t.Context(), call("/shop.v1.Orders/Get", bob)); err == nil {
		t.Errorf("another token has the answer of the first: %+v", got)
	}
	if got := s.Asked.Load(); got != 2 {
		t.Errorf("asked %d times, want 2", got)
	}
}
