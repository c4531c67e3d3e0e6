package rules

import (
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
// one of these endings, with or without an s. Words have - _ or . between them.
var (
	SecretNames   = []string{"cookie2", "dpop", "set-cookie2", "x-amzn-oidc-data", "x-auth", "x-ms-client-principal", "x-sid"}
	SecretEndings = []string{"apikey", "authorization", "bearer", "cookie", "credential", "csrf", "jwt", "otp", "passphrase", "passwd", "password", "pwd", "secret", "session", "sessionid", "token", "xsrf"}
)

// HarmlessKeys are the words before a last word "key" that make it no secret.
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
	words := strings.FieldsFunc(name, func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	for i, word := range words {
		singular := strings.TrimSuffix(word, "s")
		if slices.ContainsFunc(SecretEndings, func(ending string) bool { return strings.HasSuffix(singular, ending) }) {
			return true
		}
		if last := i == len(words)-1; last && singular == "key" && (i == 0 || !slices.Contains(HarmlessKeys, words[i-1])) {
			return true
		}
	}
	return false
}
