package auth

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestConnectionIsJudgedOnce: its calls have its identity, the same value of it, until they
// bring their own.
func TestConnectionIsJudgedOnce(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true})
	cert := &report.ClientNames{CommonName: "agent"}
	for name, row := range map[string]struct {
		c    aCall
		want string
	}{
		"a token":       {aCall{conn: "Bearer " + staffToken(nil)}, "alice"},
		"an API key":    {aCall{conn: "Bearer " + key["ci"]}, "ci"},
		"a certificate": {aCall{connected: true, client: cert}, "agent"},
		"both":          {aCall{conn: "Bearer " + staffToken(nil), client: cert}, "alice"},
	} {
		id, err := a.AuthenticateConn(t.Context(), row.c.connRequest())
		if err != nil || id.Identity == nil || id.Identity.Name != row.want || id.Until.IsZero() {
			t.Errorf("%s: %+v, %v", name, id, err)
			continue
		}
		call := func(own string) *bridge.Identity {
			r := aCall{own: own, client: row.c.client}.request(t, a)
			r.Conn = id
			got, err := a.Authenticate(t.Context(), r)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return got
		}
		if got := call(""); got != id.Identity {
			t.Errorf("%s: a call has the identity %+v, want that of the connection", name, got)
		}
		if got := call("Bearer " + staffToken(claims{"sub": "carol"})); got == id.Identity || got.Name != "carol" {
			t.Errorf("%s: a call of its own has the identity %+v", name, got)
		}
	}
}

// TestTwoIdentitiesOfOneConnection, many calls at once: each has its own, and none another's.
func TestTwoIdentitiesOfOneConnection(t *testing.T) {
	a := newAuth(t, Config{Issuers: []Issuer{staff(t), shop(t)}})
	id := must(a.AuthenticateConn(t.Context(), aCall{conn: "Bearer " + staffToken(nil)}.connRequest()))
	tokens := map[string]string{"": "alice", "Bearer " + shopToken(nil): "bob", "Bearer " + staffToken(claims{"sub": "carol"}): "carol", "Bearer bad": unauthenticated}
	var calls sync.WaitGroup
	for range 8 {
		for own, want := range tokens {
			calls.Go(func() {
				r := aCall{own: own}.request(t, a)
				r.Conn = id
				got := verdict(a.Authenticate(t.Context(), r))
				if got != want || want != unauthenticated && r.Metadata["x-culvert-subject"][0] != want {
					t.Errorf("got %s, and the backend %v, want %s", got, r.Metadata["x-culvert-subject"], want)
				}
			})
		}
	}
	calls.Wait()
}

// TestConnectionsLearnOfWithdrawnKeys, and of an outage's end, soon.
func TestConnectionsLearnOfWithdrawnKeys(t *testing.T) {
	issuer := staff(t)
	a := newAuth(t, Config{Issuers: []Issuer{issuer}})
	c := aCall{conn: "Bearer " + staffToken(nil)}.connRequest()
	id := must(a.AuthenticateConn(t.Context(), c))
	if holds := time.Until(id.Until); holds > goodConn {
		t.Errorf("it holds for %v", holds)
	}
	writeFile(t, issuer.KeysFile, keySet(map[string]crypto.Signer{"new": strangeKey()}))
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if id = must(a.AuthenticateConn(t.Context(), c)); id.Identity != nil || time.Until(id.Until) > badConn {
		t.Errorf("afterwards it is %+v, until %v", id.Identity, id.Until)
	}
	if text := fmt.Sprintf("%v %+v %#v", id, id, id.Value); strings.Contains(text, "eyJ") {
		t.Errorf("it shows its token: %s", text)
	}
}

// TestConnectionOfAService: what only a service can judge proves nothing yet, whatever else the
// connection has.
func TestConnectionOfAService(t *testing.T) {
	var j judge
	a := newAuth(t, Config{External: j.serveGRPC(t), Certificates: true})
	c := aCall{conn: "Bearer secret-alice", client: &report.ClientNames{CommonName: "proxy"}}
	if id := must(a.AuthenticateConn(t.Context(), c.connRequest())); id.Identity != nil {
		t.Errorf("it proves %+v", id.Identity)
	}
	wantJudged(t, a, c, "alice")
}

// TestConnectionBesideAService: a connection's token proves the identity that its calls have once the
// service permits them, if it is the token that names the subject.
func TestConnectionBesideAService(t *testing.T) {
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	token := "Bearer " + staffToken(claims{"exp": ends.Unix()})
	permits := serveCheck(t, new(editor))
	for name, row := range map[string]struct {
		cfg  Config
		conn string
		want string // "": nobody
	}{
		"the token first":   {Config{AllOf: []string{"staff", WayExternal}}, token, "alice"},
		"the service first": {Config{AllOf: []string{WayExternal, "staff"}}, token, ""},
		"any of the tokens": {Config{AllOf: []string{WayExternal}, AnyOf: []string{"staff"}}, token, ""},
		"an opaque token":   {Config{AllOf: []string{"staff", WayExternal}}, "Bearer secret-alice", ""},
		"no token":          {Config{AllOf: []string{"staff", WayExternal}}, "", ""},
		"the service last":  {Config{}, "Bearer secret-alice", ""},
	} {
		row.cfg.Issuers, row.cfg.External = []Issuer{staff(t)}, permits
		a := newAuth(t, row.cfg)
		c := aCall{conn: row.conn, connected: true}
		switch id := must(a.AuthenticateConn(t.Context(), c.connRequest())).Identity; {
		case row.want == "" && id != nil:
			t.Errorf("%s: it proves %+v, want nobody", name, id)
		case row.want == "":
		case id == nil || id.Name != row.want || !id.Expires.Equal(ends.Add(time.Minute)):
			t.Errorf("%s: it proves %+v, want %s", name, id, row.want)
		default:
			wantJudged(t, a, c, row.want)
		}
	}
}

// TestOneTokenOfAnIssuer is verified, that of the first place.
func TestOneTokenOfAnIssuer(t *testing.T) {
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, Cookie: "session"})
	wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil), ownCookie: "session=" + sign(strangeKey(), es256, usualClaims(staffIssuer, "root"))}, "alice")
	if got := a.State().Tokens; got.Good != 1 || got.Refused != 0 {
		t.Errorf("the verdicts are %+v", got)
	}
}

// TestThousandExpiries: a thousand callers whose tokens end in the same second all stop
// counting, in one connection and in many.
func TestThousandExpiries(t *testing.T) {
	issuer := staff(t)
	issuer.Skew = -1
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Issuers: []Issuer{issuer}})
		ends := time.Now().Add(time.Minute).Unix()
		type caller struct{ own, conn aCall }
		callers := make([]caller, 1000)
		for i := range callers {
			token := "Bearer " + staffToken(claims{"sub": fmt.Sprintf("user%d", i), "exp": ends})
			callers[i] = caller{aCall{own: token}, aCall{conn: token}}
		}
		all := func(want string) {
			t.Helper()
			for i, c := range callers {
				expect := want
				if expect == "" {
					expect = fmt.Sprintf("user%d", i)
				}
				wantJudged(t, a, c.own, expect)
				wantJudged(t, a, c.conn, expect)
			}
		}
		all("")
		if id, err := a.Authenticate(t.Context(), callers[0].own.request(t, a)); err != nil || id.Expires.Unix() != ends {
			t.Errorf("it ends at %v, %v", id, err)
		}
		time.Sleep(time.Minute)
		// A hundred and more are told that they have expired; then the share of the address they
		// come from is used up, and none of them passes either way.
		for i, c := range callers {
			for _, c := range []aCall{c.own, c.conn} {
				if got, _ := judged(t, a, c); got != unauthenticated && got != limited || i < failureShare.AtOnce/2 && got != unauthenticated {
					t.Fatalf("caller %d: %s", i, got)
				}
			}
		}
	})
}

// TestEndOfACall ends its judgement, without a verdict.
func TestEndOfACall(t *testing.T) {
	server, asked := hangingServer(t)
	a := newAuth(t, Config{Issuers: []Issuer{server}})
	token := "Bearer " + staffToken(claims{"iss": server.Issuer})
	gone := errors.New("the client went away")
	for _, ask := range []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := a.Authenticate(ctx, aCall{own: token}.request(t, a))
			return err
		},
		func(ctx context.Context) error {
			_, err := a.AuthenticateConn(ctx, aCall{conn: token}.connRequest())
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		var err error
		var call sync.WaitGroup
		call.Go(func() { err = ask(ctx) })
		<-asked
		cancel(gone)
		call.Wait()
		if !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	}
}
