package jwk

import (
	"strings"
	"testing"
)

func TestDiscoveryURL(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://issuer.example":                              "https://issuer.example/.well-known/openid-configuration",
		"https://issuer.example/":                             "https://issuer.example/.well-known/openid-configuration",
		"https://issuer.example/realms/a":                     "https://issuer.example/realms/a/.well-known/openid-configuration",
		"https://issuer.example:8443/a/":                      "https://issuer.example:8443/a/.well-known/openid-configuration",
		"http://127.0.0.1:8080":                               "http://127.0.0.1:8080/.well-known/openid-configuration",
		"http://[::1]:8080":                                   "http://[::1]:8080/.well-known/openid-configuration",
		"http://localhost":                                    "http://localhost/.well-known/openid-configuration",
		"http://issuer.example":                               "!https",
		"http://127.0.0.1.attacker.example":                   "!https",
		"http://localhost.attacker.example":                   "!https",
		"ftp://issuer.example":                                "!https",
		"file:///etc/passwd":                                  "!absolute",
		"issuer.example":                                      "!absolute",
		"":                                                    "!absolute",
		"https://":                                            "!absolute",
		"https:issuer.example":                                "!absolute",
		"https://user:secret@issuer.example":                  "!password",
		"https://issuer.example?a=secret":                     "!query",
		"https://issuer.example?":                             "!query",
		"https://issuer.example#secret":                       "!fragment",
		"https://issuer.example/\x00secret":                   "!absolute",
		"https://issuer.example/" + strings.Repeat("a", 3000): "!2048 bytes",
	} {
		got, err := discoveryURL(issuer)
		if wrong, refused := strings.CutPrefix(want, "!"); refused {
			if err == nil || !strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: %v, %v, want an error with %q", issuer, got, err, wrong)
			}
		} else if err != nil || got.String() != want {
			t.Errorf("%q: %v, %v, want %s", issuer, got, err, want)
		}
	}
}

func TestParseDiscovery(t *testing.T) {
	const https, http = "https://issuer.example", "http://localhost:8080"
	for _, c := range []struct{ issuer, in, want string }{
		{https, `{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys","x":[{}]}`, "https://issuer.example/keys"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":"https://10.0.0.1:6443/openid/v1/jwks"}`, "https://10.0.0.1:6443/openid/v1/jwks"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":"https://keys.example/?tenant=1"}`, "https://keys.example/?tenant=1"},
		{http, `{"issuer":"http://localhost:8080","jwks_uri":"http://127.0.0.1:9/keys"}`, "http://127.0.0.1:9/keys"},
		{http, `{"issuer":"http://localhost:8080","jwks_uri":"https://keys.example"}`, "https://keys.example"},
		{https, `{"issuer":"https://issuer.example/","jwks_uri":"https://issuer.example/keys"}`, "!byte by byte"},
		{https, `{"issuer":"https://ISSUER.example","jwks_uri":"https://issuer.example/keys"}`, "!byte by byte"},
		{https, `{"issuer":"https://attacker.example","jwks_uri":"https://issuer.example/keys"}`, "!byte by byte"},
		{https, `{"jwks_uri":"https://issuer.example/keys"}`, "!byte by byte"},
		{https, `{"issuer":["https://issuer.example"],"jwks_uri":"https://issuer.example/keys"}`, "!isn't a string"},
		{https, `{"issuer":"https://issuer.example","issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`, "!twice"},
		{https, `{"issuer":"https://issuer.example"}`, "!jwks_uri: not an absolute URL"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":1}`, "!isn't a string"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":"/keys"}`, "!jwks_uri: not an absolute URL"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":"http://issuer.example/keys"}`, "!jwks_uri: the scheme"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":"http://127.0.0.1/keys"}`, "!http, but its issuer is https"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":"file:///etc/passwd"}`, "!not an absolute URL"},
		{https, `{"issuer":"https://issuer.example","jwks_uri":"https://u:p@issuer.example/keys"}`, "!password"},
		{https, `[]`, "!not a JSON object"},
		{https, `<html>`, "!not JSON"},
		{https, ``, "!not JSON"},
	} {
		got, err := parseDiscovery([]byte(c.in), c.issuer)
		if wrong, refused := strings.CutPrefix(c.want, "!"); refused {
			if err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: %v, %v, want an error with %q", c.in, got, err, wrong)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("%s: %v, %v, want %s", c.in, got, err, c.want)
		}
	}
}

// FuzzParseDiscovery: keys are https, whatever a document says of an https issuer.
func FuzzParseDiscovery(f *testing.F) {
	const issuer = "https://issuer.example"
	f.Add([]byte(`{"issuer":"https://issuer.example","jwks_uri":"https://keys.example/a?b"}`))
	f.Add([]byte(`{"issuer":"https://issuer.example","jwks_uri":"http://localhost/"}`))
	f.Add([]byte(`{"issuer":"https://issuer.example/","jwks_uri":"//keys.example"}`))
	f.Add([]byte(`{"issuer":"https://issuer.example","jwks_uri":"https://a@b#c"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		u, err := parseDiscovery(in, issuer)
		if err == nil && (u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "") {
			t.Errorf("%q: keys are fetched from %q", in, u)
		}
	})
}
