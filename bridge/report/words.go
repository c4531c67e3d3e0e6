package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// Words says a setting in the words of those who read culvert's texts: the key of a file, a
// flag, a field. If set is true, the words are those to set it: to the value, unless that is
// empty. A nil Words says the field of Config.
type Words func(key, value string, set bool) string

// Named returns the name of the setting for a text of a Fault: Words says it.
func Named(key string) string { return "{" + key + "}" }

// ToSet returns what sets the setting to the value, for a text of a Fault. If value is empty,
// any value is meant.
func ToSet(key, value string) string { return "{" + key + "=" + strconv.Quote(value) + "}" }

// Say returns the text with its settings said.
func (w Words) Say(text string) string {
	before, rest, marked := strings.Cut(text, "{")
	if !marked {
		return text
	}
	var b strings.Builder
	for marked {
		b.WriteString(before)
		said, after, ok := w.sayFirst(rest)
		if !ok { // a peer's own words
			said, after = "{", rest
		}
		b.WriteString(said)
		before, rest, marked = strings.Cut(after, "{")
	}
	b.WriteString(before)
	return b.String()
}

// sayFirst says the setting whose mark is open, and returns the text behind it.
func (w Words) sayFirst(text string) (said, rest string, ok bool) {
	key, value := text[:max(strings.IndexAny(text, "=}"), 0)], ""
	field, known := fieldOf(key)
	rest, set := strings.CutPrefix(text[len(key):], "=")
	if set {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", "", false
		}
		rest = rest[len(quoted):]
		value, _ = strconv.Unquote(quoted) // it is one
	}
	rest, closed := strings.CutPrefix(rest, "}")
	if !known || !closed {
		return "", "", false
	}
	return w.said(field, key, value, set), rest, true
}

func (w Words) said(field, key, value string, set bool) string {
	switch {
	case w != nil:
		return w(key, value, set)
	case value != "":
		return fmt.Sprintf("%s: %q", field, value)
	}
	return field
}

// In returns the fault for people: its settings are said, also in the text of its cause, and
// it has the remedy of its row if it had none.
func (f *Fault) In(w Words) *Fault {
	said := *f
	said.Text, said.Hint = w.Say(f.Text), w.Say(f.Hint)
	if said.Remedy = f.Remedy; said.Remedy == "" {
		said.Remedy = f.Row().Remedy
	}
	said.Remedy = w.Say(said.Remedy)
	if f.Cause != nil {
		said.Cause = errors.New(w.Say(f.Cause.Error()))
	}
	return &said
}

// fields are those of Config and of its structs whose names don't follow from their keys.
var fields = map[string]string{
	KeyOrigins:                  "AllowOrigins",
	KeyHosts:                    "Hosts",
	KeyMethodsAllow:             "AllowMethods",
	KeyMethodsDeny:              "DenyMethods",
	KeyPathPrefix:               "PathPrefix",
	KeyFallback:                 "FallbackURL",
	KeyCookies:                  "ForwardCookies",
	KeyRoutes:                   "Routes",
	KeyMemory:                   "Memory",
	KeyTrustedProxies:           "TrustedProxies",
	KeyEventID:                  "MessageRoute.EventID",
	KeyCertificates:             "Listener.TLS",
	KeyTransports:               "Listener.Transports",
	KeyProxyProtocol:            "Listener.ProxyProtocol",
	KeyBackendTLS:               "Backend.TLS",
	KeyHealthCheck:              "Backend.HealthCheck",
	KeyHealthCheck + ".service": "Backend.HealthCheck.Service",
	KeyBackendCalls:             "NamedBackend.MaxCalls",
	KeyWaitingCalls:             "Backend.MaxWaiting",

	KeyListenerMessageBytes: "Listener.MessageBytes",
	KeyListenerHeaderBytes:  "Listener.HeaderBytes",
	KeyRouteMessageBytes:    "Route.MessageBytes",
	KeyRouteHeaderBytes:     "Route.HeaderBytes",
}

// quotas have other names in Quota.
var quotas = strings.NewReplacer("decompressed_bytes_per_second", "decompressed_per_second", "fallback_requests", "web_requests")

// structs are those of Config in which the keys of a section are, the longest first.
var structs = []struct{ section, name string }{
	{KeyAddressLimits, "Limits.Address."},
	{KeyMethodLimits, "MethodQuota."},
	{KeyListenerLimits, "Listener.Limits."},
	{KeyRouteLimits, "Route.Limits."},
	{KeyLimits, "Limits."},
	{"routes[].", "Route."},
	{"backend.", "Backend."},
}

// fieldOf returns the field of Config that a key stands for, and false for what is no key.
func fieldOf(key string) (string, bool) {
	if field, ok := fields[key]; ok {
		return field, true
	}
	key = quotas.Replace(key)
	for _, s := range structs {
		if rest, in := strings.CutPrefix(key, s.section); in && rest != "" && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz_.") == "" {
			return s.name + camelCase(rest), true
		}
	}
	return "", false
}

// camelCase returns the name of a field: "QueueTimeout" for "queue_timeout".
func camelCase(key string) string {
	var name strings.Builder
	for part := range strings.FieldsFuncSeq(strings.ReplaceAll(key, ".", "_._"), func(r rune) bool { return r == '_' }) {
		name.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return name.String()
}

// Log returns a Logger that says the settings in the values of its lines.
func (w Words) Log(l *slog.Logger) *slog.Logger { return slog.New(sayingHandler{l.Handler(), w}) }

type sayingHandler struct {
	slog.Handler
	words Words
}

// Handle implements slog.Handler.
func (h sayingHandler) Handle(ctx context.Context, r slog.Record) error {
	said := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindString {
			a.Value = slog.StringValue(h.words.Say(a.Value.String()))
		}
		said.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, said)
}

// WithAttrs implements slog.Handler.
func (h sayingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sayingHandler{h.Handler.WithAttrs(attrs), h.words}
}

// WithGroup implements slog.Handler.
func (h sayingHandler) WithGroup(name string) slog.Handler {
	return sayingHandler{h.Handler.WithGroup(name), h.words}
}
