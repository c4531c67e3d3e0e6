package auth

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestSecretsStayInside: no credential is in a log, an error, a state or anything that is
// printed, whatever becomes of its call. Clients learn nothing of addresses and files either.
func TestSecretsStayInside(t *testing.T) {
	var log bytes.Buffer
	var j judge
	keys, key := keysOf(t, time.Time{}, "ci")
	tokenFile := writeFile(t, "token", []byte("hush-of-a-token-file"))
	// The server of keys repeats what it was sent, and fails.
	served, _ := keyServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		http.Error(w, r.Header.Get("Authorization"), http.StatusBadRequest)
	}))
	served.Access.TokenFile = tokenFile
	external := j.serveGRPC(t)
	a := newAuth(t, Config{
		Issuers: []Issuer{staff(t), served}, APIKeys: keys, External: external, Cookie: "session",
		Rules:  []Rule{{Name: "no-eve", Deny: true, Identities: []string{"eve"}}},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	secrets := map[string]string{
		"good":             staffToken(nil),
		"refused":          staffToken(claims{"sub": "eve"}),
		"expired":          staffToken(claims{"exp": 1}),
		"badly signed":     sign(strangeKey(), es256, usualClaims(staffIssuer, "alice")),
		"of no known key":  sign(strangeKey(), `{"alg":"ES256","kid":"other"}`, usualClaims(staffIssuer, "alice")),
		"unjudged":         sign(strangeKey(), es256, usualClaims(served.Issuer, "alice")),
		"of no JSON":       encode([]byte("{hush-hush")) + "." + encode([]byte("hush-hush")) + "." + encode([]byte("hush-hush")),
		"opaque":           "secret-alice-and-more-to-it",
		"opaque, refused":  "an-opaque-token-that-nobody-knows",
		"an API key":       key["ci"],
		"a damaged key":    key["ci"][:55],
		"an unknown key":   strings.Repeat("unknown-", 8),
		"a password":       "YWxpY2U6aHVzaC1odXNo",
		"with a line more": "bad\r\nx-culvert-subject:root",
	}
	var said strings.Builder
	for _, secret := range secrets {
		for _, c := range []aCall{
			{own: "Bearer " + secret},
			{own: "Basic " + secret},
			{own: secret},
			{conn: "Bearer " + secret},
			{bearer: secret},
			{ownCookie: "session=" + secret},
			{cookie: "session=" + secret},
			{key: secret},
		} {
			r := c.request(t, a)
			id, err := a.Authenticate(t.Context(), r)
			fmt.Fprintf(&said, "%+v %v %+v %s %+v\n", id, err, r.Refused, r.Rule, r.Conn)
			if f, is := errors.AsType[*report.Fault](err); is {
				fmt.Fprintf(&said, "%s %+v %v\n", f.Status("id", true), f, f.Cause)
				if text := f.Status("id", false).String(); strings.Contains(text, "127.0.0.1") || strings.Contains(text, os.TempDir()) {
					t.Errorf("the client learns of an inside: %s", text)
				}
			}
			if r.Conn != nil {
				fmt.Fprintf(&said, "%v %+v %#v\n", r.Conn.Value, r.Conn.Value, r.Conn.Value)
			}
		}
	}
	_ = a.Reload()
	state := a.State()
	fmt.Fprintf(&said, "%+v %+v %+v %v %+v %#v\n", state, *state.APIKeys, *state.External, a, a, a.places)
	all := said.String() + log.String()
	secrets["of the token file"] = "hush-of-a-token-file"
	for name, secret := range secrets {
		for _, part := range strings.FieldsFunc(secret, func(r rune) bool { return strings.ContainsRune(".\r\n", r) }) {
			if at := strings.Index(all, part); at >= 0 && len(part) > 10 && part != "x-culvert-subject:root" {
				t.Errorf("the token %s is told: …%s…", name, all[max(0, at-200):at+len(part)])
			}
		}
	}
	if strings.Contains(all, "sha256:") || !strings.Contains(log.String(), "can't be fetched") {
		t.Errorf("hashes are told, or nothing is logged: %s", log.String())
	}
}
