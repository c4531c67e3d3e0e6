package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Words says a setting in the words of those who read culvert's texts: the key of a file, a
// flag, a field. If set is true, the words are those to set it: to the value, unless that is
// empty. A nil Words says the field of Config. A program without such a setting returns "",
// and the text leaves out the clause that names it.
type Words func(key, value string, set bool) string

// A setting in a text stands between these, which no header of a peer's can have.
const (
	markBegins = "\x0e"
	markEnds   = "\x0f"
)

// Named returns the name of the setting for a text of a Fault: Words says it.
func Named(key string) string { return markBegins + key + markEnds }

// ToSet returns what sets the setting to the value, for a text of a Fault. If value is empty,
// any value is meant.
func ToSet(key, value string) string { return Named(key + "=" + value) }

// Say returns the text with its settings said, in time linear in its length.
func (w Words) Say(text string) string {
	if !strings.Contains(text, markBegins) {
		return text
	}
	var b strings.Builder
	for {
		head, rest, marked := strings.Cut(text, markEnds)
		at := strings.LastIndex(head, markBegins)
		if !marked {
			b.WriteString(head)
			return b.String()
		}
		if key, value, set := strings.Cut(head[at+1:], "="); at >= 0 && fieldOf(key) != "" {
			said := w.said(key, value, set)
			if said == "" {
				head, rest = withoutClause(head[:at], rest, b.Len() == 0)
			} else {
				head = head[:at] + said
			}
			b.WriteString(head)
		} else { // a peer's own words
			b.WriteString(head + markEnds)
		}
		text = rest
	}
}

// separators stand between the clauses of a text.
var separators = [...]string{"; ", ", ", " or "}

// withoutClause returns what is left before and behind a setting, without its parentheses or
// its clause: "send less, or raise …" is "send less". first means that nothing is before.
func withoutClause(before, behind string, first bool) (string, string) {
	if inner, ok := strings.CutSuffix(before, " ("); ok && strings.HasPrefix(behind, ")") {
		return inner, behind[1:]
	}
	cut := 0
	for _, s := range separators {
		cut = max(cut, strings.LastIndex(before, s))
	}
	before = strings.TrimRight(before[:cut], ",;")
	end := len(behind)
	if i := strings.IndexAny(behind, markBegins+")"); i >= 0 {
		end = i
	}
	for _, s := range separators {
		if i := strings.Index(behind[:end], s); i >= 0 {
			end = i
		}
	}
	behind = behind[end:]
	if first && before == "" {
		behind = strings.TrimPrefix(strings.TrimLeft(behind, ",; "), "or ")
	}
	return before, behind
}

func (w Words) said(key, value string, set bool) string {
	switch {
	case w != nil:
		return w(key, value, set)
	case value != "":
		return fmt.Sprintf("%s: %q", fieldOf(key), value)
	}
	return fieldOf(key)
}

// Err returns the error with the settings in its text said.
func (w Words) Err(err error) error {
	if err == nil || !strings.Contains(err.Error(), markBegins) {
		return err
	}
	return &saidError{err, w.Say(err.Error())}
}

type saidError struct {
	error
	text string
}

func (e *saidError) Error() string { return e.text }
func (e *saidError) Unwrap() error { return e.error }

// In returns the fault for people: its settings are said, also in the text of its cause, and
// it has the remedy of its row if it had none.
func (f *Fault) In(w Words) *Fault {
	said := *f
	said.said = true
	said.Text, said.Hint = w.Say(f.Text), w.Say(f.Hint)
	said.Remedy = w.Say(cmp.Or(f.Remedy, f.Row().Remedy))
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
	KeyDoctor:                   "Doctor",
	KeyMemory:                   "Memory",
	KeyTrustedProxies:           "TrustedProxies",
	KeyMessagePath:              "MessageRoute.Path",
	KeyEventID:                  "MessageRoute.EventID",
	KeyMessageRefresh:           "MessageRoute.Refresh",
	KeyAuth:                     "Authenticator",
	KeyAuthCookie:               "AuthCookies",
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
	{KeyIdentityLimits, "Limits.Identity."},
	{KeyMethodLimits, "MethodQuota."},
	{KeyListenerLimits, "Listener.Limits."},
	{KeyRouteLimits, "Route.Limits."},
	{KeyLimits, "Limits."},
	{"routes[].", "Route."},
	{"backend.", "Backend."},
}

// fieldOf returns the field of Config that a key stands for, or "" for what is no key.
func fieldOf(key string) string {
	const most = 64 // bytes of any key
	if field, ok := fields[key]; ok || len(key) > most {
		return field
	}
	key = quotas.Replace(key)
	for _, s := range structs {
		if rest, in := strings.CutPrefix(key, s.section); in && rest != "" && strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz_.") == "" {
			return s.name + camelCase(rest)
		}
	}
	return ""
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
		switch v := a.Value.Any().(type) {
		case string:
			a.Value = slog.StringValue(h.words.Say(v))
		case error:
			a.Value = slog.AnyValue(h.words.Err(v))
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
