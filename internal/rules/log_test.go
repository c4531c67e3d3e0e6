package rules

import (
	"strings"
	"testing"
)

func TestSecretsInMetadata(t *testing.T) {
	for _, name := range strings.Fields(`
		authorization proxy-authorization x-authorization x-amz-authorization cookie cookies cookie2 set-cookie set-cookie2 x-cookie
		x-api-key api-key apikey x-apikey x-api-keys key x-functions-key ocp-apim-subscription-key x-goog-api-key private_key access.key
		x-token x-tokens token x-auth-token x-access-token private-token x-vault-token x-amz-security-token x-goog-iam-authorization-token
		x-forwarded-access-token x-auth-request-access-token x-amzn-oidc-accesstoken x-amzn-oidc-data x-ms-token-aad-id-token x-idtoken
		x-goog-iap-jwt-assertion cf-access-jwt-assertion x-ms-client-principal dpop x-auth
		x-csrf-token x-csrf x-xsrf-token xsrf x_csrf_token x-csrftoken
		client-secret x-secret secret-name x-password password-hash x-passwd passphrase db.pwd credentials x-amz-credential
		session x-session-id sessionid x-sid x-otp x-totp bearer x-bearer
		x-auth-token2 x-authorization2 authorization_v2 cookie3 password1 x-jwt-2 x-tokenv2 x-api-key2 x-api-key-2 x-api-key-v2 x-api-key-old x-api-key-id
		x-secretkey secretkeys accesskey private-passkey x-subscriptionkey auth x-user-auth proxy-auth oauth x-oauth2 x-basicauth
		authentication x-authentication-info x-signature x-hub-signature-256 client-assertion x-passcode x-pass creds x-cred connect.sid phpsessid
		x-original-url x-original-uri x-forwarded-uri x-rewrite-url x-envoy-original-path
	`) {
		if !HoldsSecret(name) {
			t.Errorf("%s isn't taken for a secret", name)
		}
		if CheckLogField(LogMetadata+name) == nil {
			t.Errorf("the log may have %s", name)
		}
	}
	for _, name := range strings.Fields(`
		x-tenant x-request-source traceparent x-b3-traceid idempotency-key x-idempotency-key x-partition-key cache-keys idempotencykey x-partition-key-2 x-forwarded-for
		x-user-id x-auth-request-user x-author x-keyboard x-keynote x-tokenizer-version x-secretary x-compass x-region grpc-timeout via
		x-auth-user x-author2 x-b3-spanid x-v2 v1 2 x-class x-access-log x-inside x-passenger x-signed x-envoy-attempt-count
	`) {
		if HoldsSecret(name) {
			t.Errorf("%s is taken for a secret", name)
		}
		if err := CheckLogField(LogMetadata + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLogFields(t *testing.T) {
	for _, field := range []string{"host", "user_agent", "metadata.x-tenant", "metadata.a.b_c-2"} {
		if err := CheckLogField(field); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	for field, want := range map[string]string{
		"":                       "metadata.x-tenant",
		"Host":                   "host",
		"x-tenant":               "metadata.",
		"route":                  "remove",
		"trace_id":               "remove",
		"metadata":               "metadata.x-tenant",
		"metadata.":              "lower-case",
		"metadata.X-Tenant":      "lower-case",
		"metadata.a b":           "lower-case",
		"metadata.user-agent":    "user_agent",
		"metadata.x-trace-bin":   "-bin",
		"metadata.authorization": "secret",
	} {
		if err := CheckLogField(field); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error about %q", field, err, want)
		}
	}
}

// FuzzCheckLogField: no field that is accepted breaks a line of text, or is longer than its
// name.
func FuzzCheckLogField(f *testing.F) {
	for _, seed := range []string{"host", "metadata.x-tenant", "metadata.x-api-key", "metadata.a=b", "metadata.\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		if CheckLogField(field) != nil {
			return
		}
		if strings.ContainsAny(field, "= \t\r\n\"\\") || strings.ToLower(field) != field {
			t.Errorf("%q is accepted", field)
		}
	})
}
