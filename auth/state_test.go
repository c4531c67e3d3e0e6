package auth

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestStateSaysWhoIsRefused: why and how often, and which rule decides how often.
func TestStateSaysWhoIsRefused(t *testing.T) {
	keys, _ := keysOf(t, time.Time{}, "ci")
	cfg := Config{
		Issuers: []Issuer{staff(t), shop(t)}, APIKeys: keys, PublicMethods: []string{"shop.v1.Catalog/*"},
		Rules: []Rule{
			{Name: "no-eve", Deny: true, Identities: []string{"eve"}},
			{Name: "idle", Identities: []string{"nobody-has-this"}},
			{Name: "staff", Issuers: []string{"staff"}},
		},
	}
	a := newAuth(t, cfg)
	for range 2 {
		wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, "alice")
	}
	wantJudged(t, a, aCall{own: "Bearer " + staffToken(claims{"sub": "eve"})}, denied)
	wantJudged(t, a, aCall{own: "Bearer " + shopToken(nil)}, denied)
	wantJudged(t, a, aCall{method: "/shop.v1.Catalog/List"}, "nobody")
	wantJudged(t, a, aCall{}, unauthenticated)
	wantJudged(t, a, aCall{own: "Bearer " + shopToken(claims{"exp": 1})}, unauthenticated)
	wantJudged(t, a, aCall{own: "Bearer " + shopToken(claims{"aud": "other"})}, unauthenticated)
	wantJudged(t, a, aCall{key: strings.Repeat("k", 40)}, unauthenticated)
	wantJudged(t, a, aCall{own: "Bearer opaque"}, unauthenticated)

	s := a.State()
	if want := []RuleState{{"no-eve", true, 1}, {"idle", false, 0}, {"staff", false, 2}, {"public method", false, 1}, {"no rule allows", true, 1}}; !slices.Equal(s.Rules, want) {
		t.Errorf("the rules are %+v, want %+v", s.Rules, want)
	}
	refused := map[[3]string]RefusedState{}
	for i, r := range s.Refused {
		refused[[3]string{r.Key, r.Issuer, string(r.Reason)}] = r
		if i > 0 && r.Last.After(s.Refused[i-1].Last) || r.Last.Before(s.Began) || r.Cause == "" {
			t.Errorf("the state has %+v at %d", r, i)
		}
	}
	for of, want := range map[[3]string]uint64{
		{report.KeyAuthIssuers, "shop", "UNAUTHENTICATED"}: 2, {report.KeyAuthRules, "", "PERMISSION_DENIED"}: 2,
		{report.KeyAuthAPIKeys, "", "UNAUTHENTICATED"}: 1, {report.KeyAuth, "", "UNAUTHENTICATED"}: 2,
	} {
		if got := refused[of]; got.Calls != want {
			t.Errorf("%q: got %+v, want %d", of, got, want)
		}
	}
	if len(refused) != 4 || !strings.Contains(refused[[3]string{report.KeyAuthRules, "", "PERMISSION_DENIED"}].Cause, "no rule allows") {
		t.Errorf("the refusals are %+v", s.Refused)
	}
	if s = newAfter(t, cfg, a).State(); len(s.Refused) > 0 || s.Rules[2].Calls > 0 {
		t.Errorf("a reload counts on: %+v", s)
	}
}

// TestStateSaysWhyAServiceFails, until it answers again.
func TestStateSaysWhyAServiceFails(t *testing.T) {
	var status atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	defer server.Close()
	for _, open := range []bool{false, true} {
		a := newAuth(t, Config{External: &External{URL: server.URL, Timeout: 10 * time.Second, FailOpen: open}})
		for _, code := range []int{200, 503, 403, 503, 200} {
			status.Store(int64(code))
			_, _ = judged(t, a, aCall{own: "Basic x", md: metadata.MD{}})
			if got := a.State().External; (got.Problem != "") != (code == 503) || code == 503 && !strings.Contains(got.Problem, "503") {
				t.Errorf("fail-open %v: behind %d the state is %+v", open, code, got)
			}
		}
	}
	limit := &RateLimit{Target: "127.0.0.1:1", Domain: "d", Timeout: time.Second, Descriptors: [][]DescriptorEntry{{{Key: "k", Value: "v"}}}}
	a := newAuth(t, Config{RateLimit: limit, Issuers: []Issuer{staff(t)}})
	wantJudged(t, a, aCall{}, unauthenticated)
	if got := a.State().RateLimit; got.Problem != "" {
		t.Errorf("nobody was asked, and the state is %+v", got)
	}
	wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, "alice")
	if got := a.State().RateLimit; !strings.Contains(got.Problem, "ShouldRateLimit") || got.Open != 1 {
		t.Errorf("the state is %+v", got)
	}
}

// TestStateIsPlain: other modules can name every type in a State.
func TestStateIsPlain(t *testing.T) {
	var look func(reflect.Type)
	look = func(of reflect.Type) {
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			look(of.Elem())
		case reflect.Struct:
			if strings.Contains(of.PkgPath(), "/internal/") {
				t.Errorf("%v is of %s", of, of.PkgPath())
			}
			for i := range of.NumField() {
				if f := of.Field(i); f.IsExported() {
					look(f.Type)
				}
			}
		}
	}
	look(reflect.TypeFor[State]())
}
