package bridge_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
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
	b.WriteString(quoted(`# Errors that culvert makes itself

For operators, and for authors of clients who got one of these errors. This page is generated from 'bridge/report/reasons.go'.

culvert passes the backend's statuses unchanged. A status that culvert makes itself has a 'google.rpc.ErrorInfo' in its details, with
the domain 'culvert', one of the reasons below, and metadata:

| metadata | value |
|---|---|
| 'call_id' | the call's id. culvert's log has the underlying error in the line with the same 'call_id' |
| 'sent' | with the code Unavailable only: 'no' if a retry is safe, because the call didn't reach the backend, else 'maybe' |
| 'limit' | the key of the limit that the call reached. With 'LIMIT_EXCEEDED', 'google.rpc.RetryInfo' has the time after which there may be room |

`))
	for _, r := range report.Reasons() {
		code := r.Code.String()
		switch r.Reason {
		case report.ReasonBadRequest: // gRPC's rule of compressed messages
			code += "; Internal for a compressed message without `grpc-encoding`"
		case report.ReasonUpstreamReset: // gRPC's rules
			code += "; for RST_STREAM the code that [gRPC's rules](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors) give, such as Internal or Canceled; Internal for a malformed frame or coding"
		case report.ReasonMissingTrailers: // gRPC's rules of HTTP
			code += "; for trailers without `grpc-status`, or with an HTTP status other than 200, the code that [gRPC's rules](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md) give"
		}
		fmt.Fprintf(&b, "## %s\n\n%s.\n\n- Code: %s\n- Remedy: %s.\n\n",
			r.Reason, sentence(r.Meaning), code, r.Remedy)
	}
	b.WriteString("Next: [troubleshooting](../guides/troubleshooting.md), [the log](log.md), [configuration](configuration.md), [client protocols](protocols.md).\n")
	return b.Bytes()
}

func metadataPage() []byte {
	var b bytes.Buffer
	b.WriteString(quoted(`# Which metadata culvert forwards

For people who miss a header. This page is generated from 'bridge/internal/headers/table.go'.

culvert forwards metadata unchanged and in order, in both directions, unless a table below names it. Names are in lower case, and a
'*' stands for any rest. A name that ends in '-bin' has a binary value, which is base64 on the wire.

- **drop**: culvert never forwards the name.
- **vouched**: culvert forwards the name only if the connection comes from one of 'trusted_proxies', and only from the HTTP request
  itself. culvert ignores it in a WebSocket's first message and inside an 'h2ts' tunnel.
- **cookie**: culvert forwards the name only if the key in the last column is set.

Some backends read an underscore or a dot in a name as a hyphen ('x_forwarded_for', 'x.forwarded.for'). culvert therefore drops such
spellings of the **vouched** names, of the names that you add in 'metadata.vouched', and of 'culvert-*' and 'x-culvert-*'.

culvert adds these itself:

| to | name | value |
|---|---|---|
| backend | 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host' | the client's address, protocol and host; in 'x-forwarded-for' after the addresses that trusted proxies report |
| backend | 'via' | culvert, after the entries of trusted proxies |
| backend | 'x-forwarded-user-agent' | the client's 'user-agent' |
| backend | 'x-forwarded-client-cert' | the names in the client's verified certificate, as Envoy writes them, with 'Hash', 'Subject', 'URI' and 'DNS'; only with 'metadata.client_certificate' |
| backend | 'x-request-id' | the call's id |
| client | 'x-request-id' | the call's id, unless the backend sends one |

`))
	table := func(title string, rules []headers.Row) {
		fmt.Fprintf(&b, "## %s\n\n| names | rule | why |\n|---|---|---|\n", title)
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
			fmt.Fprintf(&b, "| %s | %s | %s |\n", strings.Join(names[r], ", "), r.rule, r.why)
		}
		b.WriteString("\n")
	}
	table("From the client to the backend", headers.RequestRows())
	table("From the backend to the client", headers.ResponseRows())
	b.WriteString(quoted(`## Trailers of native gRPC

HTTP forbids these names in trailers: 'authorization', 'cache-control', 'expect', 'host', 'max-forwards', 'pragma', 'range', 'realm',
'te', 'trailer', 'www-authenticate', 'if-*' and 'proxy-*'. A native client doesn't get them as trailers, because Go's HTTP server
leaves them out. Clients of gRPC-Web and of WebSockets get them.

## Methods that need a rule

culvert forwards calls to these methods only if 'methods.allow' names them: `))
	b.WriteString("`" + strings.Join(routing.DeniedUnlessAllowed(), "`, `") + "`.\n\n")
	b.WriteString("Next: [troubleshooting](../guides/troubleshooting.md), [client protocols](protocols.md), [configuration](configuration.md).\n")
	return b.Bytes()
}

// quoted returns Markdown whose code stands between apostrophes that begin or end a
// word, since a literal of Go's can't have backticks.
func quoted(text string) string { return codeMark.ReplaceAllString(text, "$1`$2`") }

var codeMark = regexp.MustCompile(`(^|[\s(])'([^'\n]+)'`)

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
