package rules

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// A LogField is an entry of log.fields, and what it adds to the line of a call.
type LogField struct{ Name, Value string }

// LogFields are the entries that there are. Any name may stand for NAME that CheckLogField accepts.
var LogFields = []LogField{
	{"host", "the host that the client called"},
	{"user_agent", "the client's `User-Agent`"},
	{LogMetadata + "NAME", "the request metadata of this name, such as `metadata.x-tenant`, before a route changes it; several values with `, ` between them"},
}

const (
	// LogMetadata is how a field begins that is request metadata.
	LogMetadata = "metadata."

	// MaxLogFields is how many fields there may be.
	MaxLogFields = 16

	// MaxLogValueBytes is where the line cuts a value.
	MaxLogValueBytes = 256
)

// Metadata that may hold a secret has one of these names, or a word of its name ends with
// one of these endings, with or without an s, or its last word is one of these. Words have
// - _ or . between them. The number of a version doesn't count: token2 is token.
var (
	SecretNames   = []string{"dpop", "x-amzn-oidc-data", "x-envoy-original-path", "x-forwarded-uri", "x-ms-client-principal", "x-original-uri", "x-original-url", "x-rewrite-url"} // also query strings
	SecretEndings = []string{"apikey", "assertion", "authentication", "authorization", "bearer", "cookie", "cred", "credential", "csrf", "jwt", "otp", "passcode", "passphrase", "passwd", "password", "pwd", "secret", "sessid", "session", "sessionid", "signature", "token", "xsrf"}
	SecretLasts   = []string{"auth", "basicauth", "oauth", "pass", "sid"}
)

// HarmlessKeys are the words before "key", or the beginnings of a word that ends with it, that
// make it no secret.
var HarmlessKeys = []string{"cache", "idempotency", "partition", "routing", "shard"}

// loggedAnyway are attributes that a line has without log.fields.
var loggedAnyway = []string{"backend", "call_id", "client", "identity", "listener", "method", "peer", "route", "span_id", "trace_id", "transport"}

// CheckLogField returns why log.fields can't have the field, as the rest of a sentence that
// begins with it.
func CheckLogField(field string) error {
	name, isMetadata := strings.CutPrefix(field, LogMetadata)
	switch {
	case field == "host" || field == "user_agent":
		return nil
	case slices.Contains(loggedAnyway, field):
		return errors.New("is in the line without this key: remove it")
	case !isMetadata:
		return errors.New("is not a field: write host, user_agent, or metadata. and a name, as in metadata.x-tenant")
	case name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		return errors.New("names no metadata: use only lower-case letters, digits, . _ and -, as in metadata.x-tenant")
	case name == "user-agent":
		return errors.New("doesn't reach culvert's metadata: write user_agent")
	case strings.HasSuffix(name, "-bin"):
		return errors.New("is binary metadata, which the log can't have: choose a name without -bin")
	case HoldsSecret(name):
		return errors.New("may hold a secret, which the log must not have: remove it (docs/reference/log.md#more-fields)")
	}
	return nil
}

// HoldsSecret reports whether metadata of this name, in lower case, may hold a secret.
func HoldsSecret(name string) bool {
	if slices.Contains(SecretNames, name) {
		return true
	}
	before := ""
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '-' || r == '_' || r == '.' }) {
		word = unversioned(word)
		if word == "" {
			continue
		}
		singular := strings.TrimSuffix(word, "s")
		if slices.ContainsFunc(SecretEndings, func(ending string) bool { return strings.HasSuffix(singular, ending) }) {
			return true
		}
		if of, isKey := strings.CutSuffix(singular, "key"); isKey && !slices.Contains(HarmlessKeys, cmp.Or(of, before)) {
			return true
		}
		before = word
	}
	return slices.Contains(SecretLasts, before)
}

// unversioned returns a word without the number of a version at its end: "token" for token2 and
// tokenv2, nothing for v2.
func unversioned(word string) string {
	bare := strings.TrimRight(word, "0123456789")
	if bare == word {
		return word
	}
	return strings.TrimSuffix(bare, "v")
}
