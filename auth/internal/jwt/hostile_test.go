package jwt

import (
	"crypto"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
)

// TestHostileTokens is the list of an attacker: no token of it is accepted, at first or again,
// no error shows the token, and none costs a good token its place.
func TestHostileTokens(t *testing.T) {
	j := newJudge(t)
	for name, c := range hostileTokens(t) {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				got := refused(t, j, c.token)
				if got.Kind != c.kind || !strings.Contains(got.Error(), c.want) {
					t.Errorf("refused with %d %q, want %d %q", got.Kind, got.Error(), c.kind, c.want)
				}
				for part := range strings.SplitSeq(c.token, ".") {
					if len(part) >= 16 && strings.Contains(fmt.Sprintf("%v %+v %q", got, *got, got.Text), part) {
						t.Errorf("the error has a part of the token: %v", got)
					}
				}
				if strings.ContainsFunc(got.Error(), control) || len(got.Error()) > 400 {
					t.Errorf("the error isn't one short line: %q", got.Error())
				}
			}
		})
	}
	if good, refused, _ := j.Kept(); good != 0 || refused > refusedEntries {
		t.Errorf("%d verdicts of good tokens are kept, and %d refusals", good, refused)
	}
}

type hostile struct {
	token string
	kind  Kind
	want  string
}

func hostileTokens(t *testing.T) map[string]hostile {
	t.Helper()
	rsaKey, p256 := private["rsa"](), private["p256"]()
	good := asJSON(claims(nil))
	list := map[string]hostile{}
	add := func(name, token string, kind Kind, want string) {
		if _, twice := list[name]; twice {
			t.Fatalf("two tokens are called %q", name)
		}
		list[name] = hostile{token, kind, want}
	}
	genuine := sign("RS256", rsaKey, `{"alg":"RS256","kid":"rsa"}`, good)
	genuineEC := token(nil)
	parts := strings.Split(genuine, ".")
	partsEC := strings.Split(genuineEC, ".")

	// Unsigned, in all spellings (RFC 8725 §3.2).
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", " none", "", "null"} {
		add("alg "+none, encode(`{"alg":"`+none+`","kid":"rsa"}`)+"."+encode(good)+".", Invalid, "")
		add("signed, alg "+none, encode(`{"alg":"`+none+`","kid":"rsa"}`)+"."+encode(good)+"."+parts[2], Invalid, "alg")
	}
	add("an escaped none", encode(`{"alg":"\u006eone"}`)+"."+encode(good)+".AA", Invalid, "alg")
	add("alg that is null", encode(`{"alg":null}`)+"."+encode(good)+".AA", Invalid, "alg")
	add("alg a number", encode(`{"alg":256}`)+"."+encode(good)+".AA", Invalid, "alg")
	add("alg a list", encode(`{"alg":["RS256","none"]}`)+"."+encode(good)+".AA", Invalid, "alg")
	add("no alg", encode(`{"typ":"JWT"}`)+"."+encode(good)+".AA", Invalid, "alg")
	add("ALG", encode(`{"ALG":"RS256","kid":"rsa"}`)+"."+encode(good)+".AA", Invalid, "alg")
	add("alg twice", sign("RS256", rsaKey, `{"alg":"none","alg":"RS256","kid":"rsa"}`, good), Invalid, "twice")
	add("no signature", parts[0]+"."+parts[1]+".", Invalid, "isn't signed")

	// HMAC with the public key as its secret (RFC 8725 §2.1).
	der := must(x509.MarshalPKIXPublicKey(rsaKey.Public()))
	pkcs1 := x509.MarshalPKCS1PublicKey(public(rsaKey))
	jwkJSON := must(json.Marshal(jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "rsa"}))
	for name, secret := range map[string][]byte{
		"DER": der, "PKCS #1 DER": pkcs1, "JWK": jwkJSON, "modulus": public(rsaKey).N.Bytes(), "nothing": nil,
		"PEM":                 pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"PEM without newline": []byte(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))),
		"PKCS #1 PEM":         pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
	} {
		for _, alg := range []string{"HS256", "hs256", "RS256"} {
			input := encode(`{"alg":"`+alg+`","kid":"rsa"}`) + "." + encode(good)
			mac := hmac.New(sha256.New, secret)
			_, _ = mac.Write([]byte(input)) // never fails
			want := "alg"
			if alg == "RS256" {
				want = "signature is wrong"
			}
			add(alg+" with the "+name, input+"."+encode(string(mac.Sum(nil))), Invalid, want)
		}
	}

	// Keys that the issuer didn't mean.
	add("kid of another type", sign("RS256", rsaKey, `{"alg":"RS256","kid":"p256"}`, good), Invalid, `"p256" isn't one for "RS256"`)
	add("kid of another curve", sign("ES256", p256, `{"alg":"ES256","kid":"p384"}`, good), Invalid, `"p384" isn't one for "ES256"`)
	add("alg of another type", sign("RS256", rsaKey, `{"alg":"ES256","kid":"p256"}`, good), Invalid, "signature is wrong")
	add("alg of another hash", sign("RS512", rsaKey, `{"alg":"RS256","kid":"rsa"}`, good), Invalid, "signature is wrong")
	add("alg of another padding", sign("PS256", rsaKey, `{"alg":"RS256","kid":"rsa"}`, good), Invalid, "signature is wrong")
	add("a stranger's RSA key", sign("RS256", strangeRSA(), `{"alg":"RS256","kid":"rsa"}`, good), Invalid, "signature is wrong")
	add("a stranger's key without kid", sign("ES256", strangeEC(), `{"alg":"ES256"}`, good), Invalid, "signature is wrong")
	add("an unknown kid", sign("ES256", p256, `{"alg":"ES256","kid":"../../etc/passwd"}`, good), Invalid, "no such key")
	add("a kid of SQL", sign("ES256", p256, `{"alg":"ES256","kid":"x' UNION SELECT 'AA"}`, good), Invalid, "no such key")
	add("a kid with a NUL", sign("ES256", p256, `{"alg":"ES256","kid":"p256\u0000"}`, good), Invalid, "no such key")
	add("a kid that breaks the line", sign("ES256", p256, `{"alg":"ES256","kid":"p256\nlevel=INFO"}`, good), Invalid, "no such key")
	add("a kid in capitals", sign("ES256", p256, `{"alg":"ES256","kid":"P256"}`, good), Invalid, "no such key")
	add("a kid that is a number", sign("ES256", p256, `{"alg":"ES256","kid":256}`, good), Invalid, `"kid" isn't a string`)
	add("a kid of null", sign("ES256", p256, `{"alg":"ES256","kid":null}`, good), Invalid, `"kid" isn't a string`)
	add("a long kid", sign("ES256", p256, `{"alg":"ES256","kid":"`+strings.Repeat("k", 300)+`"}`, good), Invalid, "over 256 bytes")

	// Keys in the header, with which the signature fits (RFC 8725 §3.10).
	embedded := string(must(json.Marshal(jose.JSONWebKey{Key: strangeRSA().Public(), KeyID: "rsa"})))
	x5c := base64.StdEncoding.EncodeToString([]byte("certificate"))
	add("jwk", sign("RS256", strangeRSA(), `{"alg":"RS256","kid":"rsa","jwk":`+embedded+`}`, good), Invalid, "jwk")
	add("jwk of the issuer", sign("RS256", rsaKey, `{"alg":"RS256","kid":"rsa","jwk":`+string(jwkJSON)+`}`, good), Invalid, "jwk")
	add("x5c", sign("RS256", strangeRSA(), `{"alg":"RS256","kid":"rsa","x5c":["`+x5c+`"]}`, good), Invalid, "x5c")
	add("jku", sign("RS256", strangeRSA(), `{"alg":"RS256","kid":"rsa","jku":"https://attacker.example/keys"}`, good), Invalid, "signature is wrong")
	add("x5u", sign("RS256", strangeRSA(), `{"alg":"RS256","kid":"rsa","x5u":"https://attacker.example/cert"}`, good), Invalid, "signature is wrong")

	// Extensions (RFC 7515 §4.1.11, RFC 7797).
	for _, crit := range []string{`["exp"]`, `["b64"]`, `[]`, `null`, `"b64"`, `["alg"]`, `["http://example.com/x"]`} {
		add("crit "+crit, sign("ES256", p256, `{"alg":"ES256","kid":"p256","b64":true,"http://example.com/x":1,"crit":`+crit+`}`, good), Invalid, "crit")
	}
	add("b64", sign("ES256", p256, `{"alg":"ES256","kid":"p256","b64":false}`, good), Invalid, "b64")
	add("zip", sign("ES256", p256, `{"alg":"ES256","kid":"p256","zip":"DEF"}`, good), Invalid, "zip")
	add("nested", sign("ES256", p256, `{"alg":"ES256","kid":"p256","cty":"JWT"}`, genuine), Invalid, "cty")
	add("nested in other letters", sign("ES256", p256, `{"alg":"ES256","kid":"p256","cty":"application/jwt"}`, good), Invalid, "cty")
	add("nested without cty", sign("ES256", p256, `{"alg":"ES256","kid":"p256"}`, genuine), Invalid, "not JSON")

	// Encrypted.
	add("JWE", encode(`{"alg":"RSA-OAEP","enc":"A256GCM"}`)+".AA.AA.AA.AA", Opaque, "JWE")
	add("unsecured JWE", encode(`{"alg":"dir","enc":"none"}`)+"...."+"AA", Opaque, "JWE")
	add("signed with enc", sign("ES256", p256, `{"alg":"ES256","kid":"p256","enc":"A256GCM"}`, good), Invalid, "enc")

	// Other types of tokens (RFC 8725 §3.11).
	for _, typ := range []string{"dpop+jwt", "secevent+jwt", "logout+jwt", "application/at+jwt/x", "at+jwt ", "JWT;x=1", "at"} {
		add("typ "+typ, sign("ES256", p256, `{"alg":"ES256","kid":"p256","typ":"`+typ+`"}`, good), Invalid, "typ")
	}
	add("typ a number", sign("ES256", p256, `{"alg":"ES256","kid":"p256","typ":1}`, good), Invalid, `"typ" isn't a string`)

	// Signatures.
	add("changed claims", partsEC[0]+"."+encode(asJSON(claims(map[string]any{"sub": "root"})))+"."+partsEC[2], Invalid, "signature is wrong")
	add("another header", encode(`{"alg":"ES256","kid":"p256"}`)+"."+partsEC[1]+"."+partsEC[2], Invalid, "signature is wrong")
	zeros := string(make([]byte, 64))
	order := elliptic.P256().Params().N.FillBytes(make([]byte, 32))
	for name, sig := range map[string]string{
		"zero r and s": zeros, "zero s": string(order[:31]) + "\x01" + zeros[:32], "r and s of the order": string(order) + string(order),
		"r over the order": string(signature("ES256", p256, partsEC[0]+"."+partsEC[1])[:32]) + string(order), "short": zeros[:63], "long": zeros + "\x00", "one byte": "\x00",
		"as ASN.1": string(must(p256.Sign(rand.Reader, make([]byte, 32), nil))),
	} {
		add("ECDSA: "+name, partsEC[0]+"."+partsEC[1]+"."+encode(sig), Invalid, "signature is wrong")
	}
	rsaSignature := must(base64.RawURLEncoding.DecodeString(parts[2]))
	modulus := public(rsaKey).N
	for name, sig := range map[string][]byte{
		"zero": make([]byte, 256), "one": append(make([]byte, 255), 1), "short": rsaSignature[:255], "long": append([]byte{0}, rsaSignature...),
		"plus the modulus": plus(rsaSignature, modulus), "the modulus": modulus.Bytes(),
	} {
		add("RSA: "+name, parts[0]+"."+parts[1]+"."+encode(string(sig)), Invalid, "signature is wrong")
	}

	// Not the compact serialization of a JWT (RFC 7515 §7.1).
	for name, text := range map[string]string{
		"empty": "", "opaque": "2YotnFZFEjr1zCsicMWpAA", "one dot": parts[0] + "." + parts[1], "three dots": genuine + ".", "JSON": `{"payload":"e30"}`,
	} {
		add(name, text, Opaque, "not a JWT")
	}
	for name, text := range map[string]string{
		"two dots": "..", "a blank in front": " " + genuine, "a blank behind": genuine + " ", "a line break": genuine + "\n", "a line break inside": parts[0] + "\r\n." + parts[1] + "." + parts[2],
		"padding": parts[0] + "=." + parts[1] + "." + parts[2], "other base64": strings.ReplaceAll(strings.ReplaceAll(genuine, "-", "+"), "_", "/") + "+",
		"a NUL": genuine + "\x00", "a NUL inside": parts[0] + "\x00." + parts[1] + "." + parts[2], "not ASCII": genuine + "é", "Bearer": "Bearer " + genuine,
		"bits behind the signature": nonCanonical(t, genuineEC), "one character": parts[0] + "." + parts[1] + ".A",
		"header not JSON": encode("header") + "." + parts[1] + "." + parts[2], "header a list": encode("[]") + "." + parts[1] + "." + parts[2],
		"header not UTF-8": encode("{\"alg\":\"RS256\",\"x\":\"\xff\"}") + "." + parts[1] + "." + parts[2],
		"deep":             encode(`{"alg":"RS256","x":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}`) + "." + encode("{}") + ".AA",
		"header cut":       encode(`{"alg":"RS256"`) + "." + parts[1] + "." + parts[2],
		"two headers":      encode(`{"alg":"RS256"}{}`) + "." + parts[1] + "." + parts[2],
	} {
		add(name, text, Invalid, "the token")
	}
	add("too long", genuine+strings.Repeat("A", MaxTokenBytes), Invalid, "over 16 KiB")
	add("too long and opaque", strings.Repeat("A", MaxTokenBytes+1), Invalid, "over 16 KiB")

	// Claims that two readers could read as different ones.
	es := func(payload string) string { return sign("ES256", p256, `{"alg":"ES256","kid":"p256"}`, payload) }
	add("sub twice", es(strings.Replace(good, `"sub":`, `"sub":"root","sub":`, 1)), Invalid, `"sub" occurs twice`)
	add("sub twice, once escaped", es(strings.Replace(good, `"sub":`, `"s\u0075b":"root","sub":`, 1)), Invalid, `"sub" occurs twice`)
	add("twice inside", es(strings.Replace(good, `"sub":`, `"x":{"a":1,"a":2},"sub":`, 1)), Invalid, `"a" occurs twice`)
	add("claims not UTF-8", es(strings.Replace(good, "alice", "ali\xffce", 1)), Invalid, "not UTF-8")
	add("half a surrogate pair", es(strings.Replace(good, "alice", `ali\ud800ce`, 1)), Invalid, "surrogate")
	add("claims a list", es("["+good+"]"), Invalid, "not a JSON object")
	add("claims with more behind", es(good+"x"), Invalid, "not JSON")
	add("no claims", es(""), Invalid, "not JSON")

	// Who.
	add("another issuer", token(map[string]any{"iss": "https://attacker.example"}), Foreign, `"https://attacker.example"`)
	add("the issuer with a slash", token(map[string]any{"iss": issuerName + "/"}), Foreign, "issuer")
	add("the issuer in capitals", token(map[string]any{"iss": strings.ToUpper(issuerName)}), Foreign, "issuer")
	add("the issuer with a NUL", token(map[string]any{"iss": issuerName + "\x00"}), Invalid, "control characters")
	add("two issuers", token(map[string]any{"iss": []string{issuerName}}), Invalid, "iss")
	add("no issuer", token(map[string]any{"iss": nil}), Invalid, "iss")
	add("an issuer of 2 KiB", token(map[string]any{"iss": strings.Repeat("i", 2048)}), Invalid, "iss")
	for name, sub := range map[string]any{"missing": nil, "empty": "", "null": raw("null"), "a number": 1, "a list": []string{"alice"}, "long": strings.Repeat("a", 1025), "a NUL": "alice\x00root", "a line break": "alice\nroot", "a hidden direction": "alice\u202eroot", "a line separator": "alice\u2028root"} {
		add("sub: "+name, token(map[string]any{"sub": sub}), Invalid, "sub")
	}

	// When.
	for _, exp := range []string{"", "null", `"9999999999"`, "-1", "-0.5", "1e400", "1e30", "253402300800", "[9999999999]", "true", "{}"} {
		add("exp "+exp, token(map[string]any{"exp": raw(exp)}), Invalid, "exp")
	}
	for _, exp := range []string{"0", "1", "1.5", "1e9", "-0"} {
		add("exp "+exp, token(map[string]any{"exp": raw(exp)}), Expired, "expired")
	}
	for _, claim := range []string{"nbf", "iat"} {
		for _, date := range []string{"9999999999", "null", `"0"`, "-1", "1e400", "[0]"} {
			add(claim+" "+date, token(map[string]any{claim: raw(date)}), Invalid, claim)
		}
	}

	// For whom.
	for _, aud := range []string{"", "null", "1", "true", "{}", "[]", `[1]`, `["culvert",1]`, `[["culvert"]]`, `[null]`} {
		add("aud "+aud, token(map[string]any{"aud": raw(aud)}), Invalid, "names no audience")
	}
	for _, aud := range []string{`"other"`, `""`, `["other","Culvert"]`, `"culvert "`, `"culvert,other"`, `"culvert other"`, `{"culvert":1}`} {
		add("aud "+aud, token(map[string]any{"aud": raw(aud)}), Invalid, "aud")
	}

	// Bound to a proof that nobody gave (RFC 7800, RFC 8705, RFC 9449).
	for _, cnf := range []string{"null", "{}", `"x"`, `[]`, `{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}`, `{"jwk":{}}`, `{"kid":"a"}`, `{"x5t#S256":1}`, `{"x5t#S256":"AA"}`, `{"x5t#S256":""}`, `{"x5t#S256":"` + encode(zeros[:32]) + `"}`, `{"x5t#S256":"` + encode(strings.Repeat("x", 32)) + `","jkt":"x"}`, `{"X5T#S256":"` + encode(strings.Repeat("x", 32)) + `"}`} {
		add("cnf "+cnf, token(map[string]any{"cnf": raw(cnf)}), Invalid, "cnf")
	}
	for _, scope := range []string{"1", "{}", "null", `[1]`, `["a",["b"]]`} {
		add("scope "+scope, token(map[string]any{"scope": raw(scope)}), Invalid, "scope")
	}
	return list
}

// plus returns a signature that is the same modulo n.
func plus(signature []byte, n *big.Int) []byte {
	s := new(big.Int).SetBytes(signature)
	return s.Add(s, n).Bytes()
}

// nonCanonical returns a token with bits set behind the last byte of the signature.
func nonCanonical(t *testing.T, token string) string {
	t.Helper()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	if last%16 != 0 {
		t.Fatalf("the last of 64 bytes leaves four bits, and the last character is %d", last)
	}
	return token[:len(token)-1] + string(alphabet[last+1])
}

// TestTheOtherSignature: for each ECDSA signature there is a second one, with n-s, which anybody
// can compute. JWS allows both (RFC 7518 §3.4). It proves the same claims, and has a verdict of
// its own.
func TestTheOtherSignature(t *testing.T) {
	j, one := newJudge(t), token(nil)
	at := strings.LastIndexByte(one, '.') + 1
	sig := must(base64.RawURLEncoding.DecodeString(one[at:]))
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
	other := one[:at] + encode(string(sig))
	if a, b := accepted(t, j, one), accepted(t, j, other); a.Subject != b.Subject || a == b {
		t.Errorf("the tokens are for %q and %q, the same verdict: %v", a.Subject, b.Subject, a == b)
	}
}

// TestHeaderAddressesAreNeverFetched: addresses of keys in a good token's header change nothing.
func TestHeaderAddressesAreNeverFetched(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	j := newJudge(t)
	header := fmt.Sprintf(`{"alg":"ES256","kid":"p256","jku":%q,"x5u":%q,"x5t":"%s","x5t#S256":"%[3]s"}`, server.URL, server.URL, encode("any"))
	accepted(t, j, sign("ES256", private["p256"](), header, asJSON(claims(nil))))
	if asked.Load() != 0 {
		t.Error("an address in a token's header was asked")
	}
}

// TestKeyTypesOfAllAlgorithms signs with each algorithm's key and claims each other one.
func TestKeyTypesOfAllAlgorithms(t *testing.T) {
	j := newJudge(t)
	kids := map[string]string{"RS256": "rsa", "RS384": "rsa", "RS512": "rsa", "PS256": "rsa", "PS384": "rsa", "PS512": "rsa", "ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed"}
	for alg, kid := range kids {
		for said := range kids {
			for _, name := range []string{`,"kid":"` + kid + `"`, ""} {
				text := sign(alg, private[kid](), `{"alg":"`+said+`"`+name+`}`, asJSON(claims(nil)))
				if said == alg {
					accepted(t, j, text)
				} else if got := refused(t, j, text); got.Kind != Invalid {
					t.Errorf("signed with %s as %s: %v", alg, said, got)
				}
			}
		}
	}
}

func public(key crypto.Signer) *rsa.PublicKey { return key.Public().(*rsa.PublicKey) }
