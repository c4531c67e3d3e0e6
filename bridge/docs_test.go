package bridge_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

var update = flag.Bool("update", false, "write the pages of docs/ that are made from tables")

// TestGeneratedPages holds docs/reference/errors.md and docs/reference/metadata.md to the
// tables that the program works by.
func TestGeneratedPages(t *testing.T) {
	for path, want := range map[string][]byte{
		"../docs/reference/errors.md":   errorsPage(),
		"../docs/reference/metadata.md": metadataPage(),
	} {
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from the tables in bridge; write it anew with: make generate", path)
		}
	}
}

// TestAnswersForTheWebServer: the guide has the HTTP status of each reason.
func TestAnswersForTheWebServer(t *testing.T) {
	page, err := os.ReadFile("../docs/guides/one-origin.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| ([0-9, ]+) \\| `([A-Z_]+)` \\|").FindAllStringSubmatch(string(page), -1)
	for _, row := range rows {
		f := report.New(report.Reason(row[2]), "")
		f.Key = report.KeyCalls
		want := strconv.Itoa(f.HTTPStatus())
		if f.Reason == report.ReasonLimitExceeded {
			f.Key = report.KeyAddressLimits + "calls"
			want = strconv.Itoa(f.HTTPStatus()) + ", " + want
		}
		if row[1] != want {
			t.Errorf("the guide has %s for %s, want %s", row[1], row[2], want)
		}
	}
	if len(rows) < 8 {
		t.Errorf("the guide has only %d reasons", len(rows))
	}
}

func errorsPage() []byte {
	var b bytes.Buffer
	reasons := report.Reasons(rules.InFile)
	b.WriteString(quoted(`# Errors that culvert makes itself

For operators, and for authors of clients: code, meaning and remedy of each error. Generated from 'bridge/report/reasons.go'.

| code | reasons |
|---|---|
`))
	for _, code := range codesOf(reasons) {
		var links []string
		for _, r := range reasons {
			if r.Code == code {
				links = append(links, fmt.Sprintf("[%s](#%s)", r.Reason, strings.ToLower(string(r.Reason))))
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", constant(code), strings.Join(links, ", "))
	}
	b.WriteString(quoted(`
[UPSTREAM_RESET](#upstream_reset), [MISSING_TRAILERS](#missing_trailers) and [BAD_REQUEST](#bad_request) come with other codes, too.

A status that culvert makes itself has a 'google.rpc.ErrorInfo' in its details, with one of these reasons. Requests that are refused before
they are calls have a [header](http-answers.md) 'culvert-reason' in its place.

~~~json
{
  "@type": "type.googleapis.com/google.rpc.ErrorInfo",
  "reason": "UPSTREAM_UNREACHABLE",
  "domain": "culvert",
  "metadata": {
    "call_id": "3ab426dec4b436a5",
    "sent": "no"
  }
}
~~~

gRPC, gRPC-Web and grpc-websockets carry it in 'grpc-status-details-bin', Connect in the 'details' of its error, in base64. A
WebSocket of bare messages can [carry it](messages.md#how-a-call-ends), too.

| metadata | value |
|---|---|
| 'call_id' | the call's id. The log has the cause in the line with the same 'call_id' |
| 'sent' | with 'UNAVAILABLE' only: 'no' if a retry is safe, because the call didn't reach the backend, as mostly with 'OVERLOADED', 'UPSTREAM_UNREACHABLE', 'UPSTREAM_UNHEALTHY', 'AUTH_UNAVAILABLE' and, for new calls, 'DRAINING'. Else 'maybe': the service has seen the call if its log has 'call_id', which it gets as 'x-request-id' (a client can choose that name, also twice) |
| 'limit' | the key of the limit |

The service can send an 'ErrorInfo' with the domain 'culvert', too. It passes unchanged, so only 'origin' in [the log](log.md#calls) proves
who made a status. With 'LIMIT_EXCEEDED' and 'DRAINING' (1 s), 'google.rpc.RetryInfo' says when to try again.

[UNAUTHENTICATED](#unauthenticated), [PERMISSION_DENIED](#permission_denied), [TOKEN_EXPIRED](#token_expired) and
[AUTH_UNAVAILABLE](#auth_unavailable) come only with [auth](auth.md), or with an
[Authenticator](../guides/embedding.md#authenticate-clients) in a program that embeds culvert.

`))
	for _, r := range reasons {
		others := ""
		switch r.Reason {
		case report.ReasonBadRequest: // gRPC's rule of compressed messages
			others = " A compressed message without `grpc-encoding` gets `INTERNAL`."
		case report.ReasonUpstreamReset: // gRPC's rules
			others = " RST_STREAM gets [gRPC's code](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors), such as `INTERNAL` or `CANCELLED`, and a malformed frame or coding gets `INTERNAL`."
		case report.ReasonOverloaded:
			others = " [Choose by the key in the message](../guides/troubleshooting.md#overloaded)."
		case report.ReasonLimitExceeded:
			others = " `limits.memory` and `limits.buffered_bytes`: [when memory is scarce](../how-it-works/memory.md#when-memory-is-scarce). The others: [limits](../guides/limits.md)."
		case report.ReasonMissingTrailers: // gRPC's rules of HTTP
			others = " Trailers without `grpc-status`, or with an HTTP status other than 200, get [gRPC's code](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md)."
		}
		// The page says once where the cause is.
		remedy := strings.NewReplacer("see the log: it has the cause under this call id", "", "; the log has the cause under this call id", "").Replace(r.Remedy)
		if remedy != "" {
			remedy = " " + sentence(remedy) + "."
		}
		fmt.Fprintf(&b, "## %s\n\n`%s`: %s.%s%s\n\n", r.Reason, constant(r.Code), r.Meaning, remedy, others)
	}
	b.WriteString("Next: [troubleshooting](../guides/troubleshooting.md), [the log](log.md).\n")
	return b.Bytes()
}

// codesOf returns the codes of some reasons, in the order of their first reasons.
func codesOf(rows []report.ReasonInfo) (all []codes.Code) {
	for _, r := range rows {
		if !slices.Contains(all, r.Code) {
			all = append(all, r.Code)
		}
	}
	return all
}

// constant returns a code as google/rpc/code.proto writes it, such as NOT_FOUND.
func constant(c codes.Code) string {
	if c == codes.Canceled {
		return "CANCELLED"
	}
	return strings.ToUpper(wordStart.ReplaceAllString(c.String(), "${1}_${2}"))
}

var wordStart = regexp.MustCompile(`([a-z])([A-Z])`)

func metadataPage() []byte {
	var b bytes.Buffer
	b.WriteString(quoted(`# Which metadata culvert forwards

For people who miss a header. Generated from 'bridge/internal/headers/table.go'.

culvert forwards metadata in both directions ([which values](protocols.md#metadata)), such as 'authorization', up to
[limits.header_bytes](configuration.md#limitsheader_bytes) (64 KiB) a call and direction. It drops the names in the tables below, where a
'*' stands for any rest, except under a condition:

- **vouched**: the name crosses if the connection comes from one of 'trusted_proxies', and only from the HTTP request
  itself, not from a WebSocket's first message or inside an 'h2ts' tunnel.
- **cookie**: the name crosses if the key is set.

Some backends read an underscore or a dot as a hyphen ('x_forwarded_for'). So culvert drops such spellings of **vouched** names, those in 'metadata.vouched', 'culvert-*' and 'x-culvert-*'.

'traceparent', 'tracestate' and 'baggage' cross unchanged, unless culvert makes [traces](../guides/otlp.md#what-the-backend-gets).
'grpc-trace-bin' doesn't cross.

The service's peer is culvert. ':authority' is 'backend.authority' or the backend's address, unless the route has its own. 'user-agent' is
that of grpc-go. culvert adds these for the backend:

| name | value | can a client choose it? |
|---|---|---|
| 'x-forwarded-for' | the entries of trusted proxies, and then the address of the connection. The client is the last entry that isn't one of 'trusted_proxies' | only the entries before the client's |
| 'x-forwarded-proto' | the client's protocol | no |
| 'x-forwarded-host' | the client's host | yes |
| 'via' | culvert, after the entries of trusted proxies | only earlier entries |
| 'x-forwarded-user-agent' | the client's 'user-agent' | yes |
| 'x-forwarded-client-cert' | with 'metadata.client_certificate': 'Hash', 'Subject', 'URI' and 'DNS' of the client's verified certificate, as Envoy writes them | no |
| 'x-culvert-subject', 'x-culvert-issuer', 'x-culvert-kind', 'x-culvert-scopes' | with [auth](auth.md#what-the-backend-gets): who calls | no |
| names in 'routes[].metadata.set' | the route's values, in place of the client's | no |
| 'opamp-instance-uid' | with polls of [OpAMP](opamp.md): the agent's instance id | yes |
| names in 'auth.issuers[].metadata', and those that the answer of 'auth.external' sets | claims of the token; the service's values | no |
| 'authorization' | with [auth](auth.md), the token of the WebSocket or tunnel, if the call has none | yes |
| 'x-request-id' | the call's id | [yes](protocols.md#metadata) |
| 'grpc-previous-rpc-attempts' | with a route's [retry](../guides/several-backends.md#retries): the number of earlier attempts | no |
| 'grpc-accept-encoding' | 'gzip' | no |
| 'traceparent' | culvert's span, with [traces](../guides/otlp.md#what-the-backend-gets) | its trace, if the client is [trusted](../guides/otlp.md#which-calls-are-sampled) |

It removes the names in 'routes[].metadata.remove'. With [auth](auth.md) it removes those in
'auth.external.own' that the service doesn't set, those that the service's answer removes, and with
'auth.strip' the credentials that it has judged.

culvert adds these for the client:

| to | name | value |
|---|---|---|
| all | 'x-request-id' | the call's id, unless the backend sends one |
| all | those that 'auth.external' and 'auth.rate_limit' answer with | of the service |
| all | 'x-grpc-status-original' | the backend's code above 16, to clients that [know none](protocols.md#status) |
| all | 'access-control-*', 'vary' | for [pages](http-answers.md#cors-pages-of-other-origins) and caches |
| not to native gRPC | 'x-content-type-options' | 'nosniff' |
| the same, not for a [Connect GET](connect.md#get) | 'cache-control', 'x-accel-buffering' | 'no-store, no-transform'; 'no' |

`))
	table := func(title string, rules []headers.Row) {
		fmt.Fprintf(&b, "## %s\n\n| names | why |\n|---|---|\n", title)
		type row struct{ rule, why string }
		var rows []row // in the order of their first names
		names := map[row][]string{}
		for _, r := range rules {
			at := row{r.Rule, r.Why}
			if names[at] == nil {
				rows = append(rows, at)
			}
			names[at] = append(names[at], "`"+r.Name+"`")
		}
		for _, r := range rows {
			why := r.why
			if r.rule != "drop" {
				why = "**" + r.rule + "**: " + why
			}
			fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(names[r], ", "), why)
		}
		b.WriteString("\n")
	}
	table("From the client to the backend", headers.RequestRows())
	table("From the backend to the client", headers.ResponseRows())
	b.WriteString(quoted(`## Trailers of native gRPC

HTTP forbids these names in trailers: 'authorization', 'cache-control', 'expect', 'host', 'max-forwards', 'pragma', 'range', 'realm',
'te', 'trailer', 'www-authenticate', 'if-*' and 'proxy-*'. So clients of native gRPC don't get them, also inside 'h2ts'. All others do.

## Methods that need a rule

These need 'methods.allow': `))
	b.WriteString("`" + strings.Join(routing.DeniedUnlessAllowed(), "`, `") + "`.\n\n")
	b.WriteString("Next: [troubleshooting](../guides/troubleshooting.md), [client protocols](protocols.md#metadata).\n")
	return b.Bytes()
}

// quoted returns Markdown whose code stands between apostrophes that begin or end a
// word, since a literal of Go's can't have backticks.
func quoted(text string) string {
	return strings.ReplaceAll(codeMark.ReplaceAllString(text, "$1`$2`"), "~~~", "```")
}

var codeMark = regexp.MustCompile(`(^|[\s(])'([^'\n]+)'`)

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
