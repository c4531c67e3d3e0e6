package bridge_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

var update = flag.Bool("update", false, "write the pages of docs/ and the file of config/ that are made from tables")

// TestGeneratedPages holds docs/reference/errors.md, docs/reference/metadata.md and config/transports.go
// to the tables that the program works by.
func TestGeneratedPages(t *testing.T) {
	for path, want := range map[string][]byte{
		"../docs/reference/errors.md":   errorsPage(),
		"../docs/reference/metadata.md": metadataPage(),

		"../config/transports.go": transportsFile(),
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

// transportsFile gives config the names of the transports, since it imports nothing
// of culvert.
func transportsFile() []byte {
	var b bytes.Buffer
	b.WriteString(`// Code generated from the table in bridge/transport.go by go generate ./bridge; DO NOT EDIT.

package config

// transports are the names of the client protocols.
var transports = []string{
`)
	for _, name := range slices.Sorted(slices.Values(bridge.Transports())) {
		fmt.Fprintf(&b, "\t%q,\n", name)
	}
	b.WriteString("}\n")
	return b.Bytes()
}

func errorsPage() []byte {
	var b bytes.Buffer
	b.WriteString(`# Errors that culvert makes itself

For whoever got one, and for operators. Made from the table in
` + "`bridge/report/reasons.go`" + `; don't edit it here.

A status of the backend passes untouched. A status that culvert makes carries
` + "`google.rpc.ErrorInfo`" + ` with the domain ` + "`culvert`" + `, one of the reasons below, and the metadata
` + "`call_id`" + `: the log has one line of the same ` + "`call_id`" + ` with the inner cause. Where the
code is UNAVAILABLE, the metadata ` + "`sent`" + ` says whether the call may have reached the backend:
` + "`no`" + ` (repeating it is safe) or ` + "`maybe`" + `. Where a limit is reached, ` + "`limit`" + ` is its key, and
` + "`google.rpc.RetryInfo`" + ` beside it says when there may be room.

`)
	for _, r := range report.Reasons() {
		fmt.Fprintf(&b, "## %s\n\n%s.\n\n- Code: %s\n- Remedy: %s.\n\n",
			r.Reason, sentence(r.Meaning), r.Code, r.Remedy)
	}
	b.WriteString("Next: [configuration](configuration.md), [the protocols](protocols.md).\n")
	return b.Bytes()
}

func metadataPage() []byte {
	var b bytes.Buffer
	b.WriteString(`# Which metadata crosses

For those who wonder where a header went. Made from the tables in
` + "`bridge/metadata.go`" + `; don't edit it here.

Everything that is not named below crosses unchanged, both ways, in order. Names are lower
case. Values of names that end in ` + "`-bin`" + ` are base64 on the wire and bytes in a call.

- **drop**: never crosses.
- **vouched**: crosses only when the connection comes from one of ` + "`trusted_proxies`" + `, and only from
  the request itself: never from a WebSocket's first message, never from inside a tunnel. With an
  underscore or a dot for a hyphen (` + "`x_forwarded_for`, `x.forwarded.for`" + `) none of these names crosses at
  all, nor one of ` + "`metadata.vouched`, `culvert-*` or `x-culvert-*`" + `: some backends read them as the same name.
- **cookie**: crosses only with the key that the last column names.

Towards the backend culvert adds ` + "`x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host`, `via`, `x-forwarded-user-agent`" + `
and ` + "`x-request-id`" + ` (the call's id), and by key (` + "`metadata.client_certificate`" + `) ` + "`x-forwarded-client-cert`" + `: who showed a
verified certificate, as Envoy writes it, with ` + "`Hash`, `Subject`, `URI` and `DNS`" + `. Towards the client it adds ` + "`x-request-id`" + `, unless the backend sends one.

`)
	table := func(title string, rules []bridge.HeaderRule) {
		fmt.Fprintf(&b, "## %s\n\n| name | rule | why |\n|---|---|---|\n", title)
		for _, r := range rules {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Name, r.Rule, r.Why)
		}
		b.WriteString("\n")
	}
	table("From the client to the backend", bridge.RequestRules())
	table("From the backend to the client", bridge.ResponseRules())
	b.WriteString("As an HTTP trailer of native gRPC, Go's HTTP server leaves out names that HTTP forbids there: `authorization`, `cache-control`,\n" +
		"`expect`, `host`, `max-forwards`, `pragma`, `range`, `realm`, `te`, `trailer`, `www-authenticate` and those that begin with `if-` or\n`proxy-`. In gRPC-Web and on WebSockets they cross.\n\n")
	b.WriteString("Besides, methods that match one of these cross only when `methods.allow` names them: `" +
		strings.Join(bridge.DeniedUnlessAllowed(), "`, `") + "`.\n\nNext: [errors](errors.md), [configuration](configuration.md).\n")
	return b.Bytes()
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
