package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// Over HTTP/2 a client that is refused while it sends gets its answer, all of
// it: curl, which loses an answer that it reads with a reset, with bodies of all
// sizes, and with one of which more comes only behind the answer.
func TestEarlyAnswersReachCurl(t *testing.T) {
	t.Parallel()
	const config = `
methods: {deny: ["a.B/Denied"]}
limits: {methods: [{pattern: "culvert.e2e.v1.Probe/Bidi", calls: 1}]}
`
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	for _, u := range []curl{
		{name: "plaintext", c: startCulvert(t, b.address, culvertOptions{config: config}), flags: []string{"--http2-prior-knowledge"}},
		{name: "TLS", c: startTLS(t, ca, b.address, config), trusts: ca.trusting(), flags: []string{"--http2", "--cacert", ca.file}},
	} {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			for _, row := range []struct{ path, origin, want string }{
				{"/none", "", "404 "},
				{"/a.B/C", "https://evil.example", "403 "},
				{"/a.B/Denied", "", "200 12"},
				{wire.Bidi, "", "200 8"},
			} {
				if row.path == wire.Bidi {
					u.fill(t)
				}
				for _, size := range []int{10, 10 << 10, 1 << 20} {
					for range 3 {
						got := u.post(t, row.path, row.origin, requestID(), bytes.NewReader(make([]byte, size)), "--data-binary", "@-")
						if got != row.want {
							t.Errorf("%s with %d bytes: curl says %q, want %q", row.path, size, got, row.want)
						}
					}
				}
				if !strings.HasPrefix(row.want, "200") {
					continue // curl sends no more behind an error
				}
				for range 3 {
					id := requestID()
					body := io.MultiReader(strings.NewReader("a part"), &untilAnswered{u.c, id}, strings.NewReader("and the rest"))
					if got := u.post(t, row.path, "", id, body, "-X", "POST", "-T", "-"); got != row.want {
						t.Errorf("%s with a part before the answer: curl says %q, want %q", row.path, got, row.want)
					}
				}
			}
		})
	}
}

// A curl is the program of that name, for one culvert.
type curl struct {
	name   string
	c      *culvert
	trusts *tls.Config // nil: plaintext
	flags  []string
}

// post sends a body as a call with an id, and returns the status of the answer
// and that of gRPC, or what curl finds wrong.
func (u *curl) post(t *testing.T, path, origin, id string, body io.Reader, flags ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), tlsPatience)
	defer cancel()
	argv := append([]string{
		"-sS", "-o", "/dev/null", "-w", "%{http_code} %header{grpc-status}",
		"-H", "Content-Type: application/grpc", "-H", "TE: trailers", "-H", "X-Request-Id: " + id,
	}, u.flags...)
	if origin != "" {
		argv = append(argv, "-H", "Origin: "+origin)
	}
	scheme := "http://"
	if u.trusts != nil {
		scheme = "https://"
	}
	cmd := exec.CommandContext(ctx, "curl", append(append(argv, flags...), scheme+u.c.address+path)...)
	cmd.Stdin = body
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s, %v", out, err)
	}
	return string(out)
}

// fill takes the one place that a method has.
func (u *curl) fill(t *testing.T) {
	t.Helper()
	var conn *wire.Conn
	if u.trusts == nil {
		conn = dial(t, wire.GRPC, u.c.address)
	} else {
		conn = dialTLS(t, wire.GRPC, u.c.address, u.trusts)
	}
	say(t, open(t, conn, wire.Bidi, probe.Script{Echo: true}), 0)
}

// requestID is an id that culvert takes for its own.
func requestID() string { return fmt.Sprintf("request-%d", lastID.Add(1)) }

// untilAnswered is nothing to read, once a call has been answered.
type untilAnswered struct {
	c  *culvert
	id string
}

func (r *untilAnswered) Read([]byte) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	if _, _, err := r.c.output.find(ctx, 0, func(line string) bool {
		return strings.Contains(line, `"msg":"call"`) && strings.Contains(line, `"`+r.id+`"`)
	}); err != nil {
		return 0, err
	}
	return 0, io.EOF
}
