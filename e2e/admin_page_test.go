package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// markup is what a page must not take for a part of itself.
const markup = `<img src=x onerror=ran=1><script>ran=1</script>`

// startWithAdmin starts culvert with an admin address, and returns that one's URL.
func startWithAdmin(t *testing.T, target string, args ...string) (c *culvert, url string) {
	t.Helper()
	c = startCulvert(t, target, culvertOptions{args: append([]string{"--admin", "127.0.0.1:0"}, args...)})
	return c, "http://" + c.logged(t, "serving the admin address", "address")["address"].(string) + "/"
}

// runAdminPage runs node/admin.js, and decodes what it prints.
func runAdminPage(t *testing.T, into any, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{"admin.js"}, args...)...)
	cmd.Dir = "node"
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node admin.js %q: %v\n%s\n%s", args, err, &stderr, out)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("node admin.js %q: %v in %q", args, err, out)
	}
}

func wantNoFindings(t *testing.T, args ...string) {
	t.Helper()
	var findings []string
	runAdminPage(t, &findings, args...)
	for _, finding := range findings {
		t.Error(finding)
	}
}

// The page of the admin address, with hostile texts in all answers and with much that is
// wrong, in light and dark and on screens of four widths: no text runs or is cut off, and
// axe-core's rules hold. ADMIN_PICTURES names a directory for pictures.
func TestAdminPageInAllSizes(t *testing.T) {
	t.Parallel()
	_, url := startWithAdmin(t, "127.0.0.1:1")
	wantNoFindings(t, "looks", url, os.Getenv("ADMIN_PICTURES"))
}

// The page asks only for what a person sees, while a person sees it, and more seldom without
// an answer. Rows keep the focus.
func TestAdminPageAsksForWhatIsSeen(t *testing.T) {
	t.Parallel()
	_, url := startWithAdmin(t, "127.0.0.1:1")
	wantNoFindings(t, "life", url)
}

// The page leads to the form for the token when the session has ended, and can end it.
func TestAdminPageEndsItsSession(t *testing.T) {
	t.Parallel()
	_, url := startWithAdmin(t, "127.0.0.1:1")
	wantNoFindings(t, "session", url)
}

// A person stops a call and sets the log's level with the keyboard alone, and reads what peers
// wrote as text.
func TestAdminPageStopsACall(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c, url := startWithAdmin(t, b.address, "--fallback", "http://127.0.0.1:1") // where no web server is
	hostile := wire.Metadata(newID(t), probe.Script{Code: uint32(codes.Internal), Message: markup})
	hostile.Set("User-Agent", markup)
	hostile.Set("X-Metadata", markup)
	for name, value := range map[string]string{"X-Nothing": "", "Grpc-Timeout": markup + "S", "Origin": "http://" + markup} {
		h := hostile.Clone()
		h.Set(name, value)
		failing, err := dial(t, wire.Web, c.address).Post(t.Context(), wire.Unary, h, wire.Request(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if e := finish(failing, 0); e.status != nil && e.status.Code == codes.OK {
			t.Errorf("%s: %q: ended with OK, want a failure", name, value)
		}
	}
	send(t, c.address, "", "GET /<svg/onload=ran=1> HTTP/1.1", "Host: "+c.address, "User-Agent: "+markup)
	const id = "stopped-by-a-person"
	open := dial(t, wire.WebSocket, c.address)
	md := wire.Metadata(newID(t), probe.Script{HeaderEarly: true, Hang: true})
	md.Set("X-Request-Id", id)
	md.Set("User-Agent", markup)
	running, err := open.Post(t.Context(), wire.ServerStream, md, wire.Request(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Close)
	ended := finishing([]wire.Call{running})
	other := post(t, dial(t, wire.GRPC, c.address), wire.ServerStream, probe.Script{Replies: 1, Hang: true})
	if _, err := wire.RecvReply(other, 0); err != nil {
		t.Fatal(err)
	}

	var seen struct {
		Asked, Said, Failures, Limits string
		Ran                           bool
	}
	runAdminPage(t, &seen, "stop", url, id)
	if want := "Stopped " + wire.ServerStream + " " + id + "."; seen.Said != want || !strings.Contains(seen.Asked, id) || !strings.Contains(seen.Asked, wire.ServerStream) || seen.Ran {
		t.Errorf("the page asked %q, said %q, and a peer's text ran %v; want %q", seen.Asked, seen.Said, seen.Ran, want)
	}
	for _, want := range []string{id, "STOPPED", markup, "GET /<svg/onload=ran=1>"} {
		if !strings.Contains(seen.Failures, want) {
			t.Errorf("the failures don't show %q:\n%s", want, seen.Failures)
		}
	}
	if !strings.Contains(seen.Limits, "http://"+markup) {
		t.Errorf("the limits don't show the origin:\n%s", seen.Limits)
	}
	if e := (<-ended)[0]; !e.is(codes.Aborted, "STOPPED") {
		t.Errorf("the call got %v, want ABORTED with STOPPED", e)
	}
	for path, want := range map[string]string{"calls?id=" + id: `"open":1,"matching":0`, "log-level": "debug\n"} {
		answer, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // it was only read
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: got %q, %v; want %q", path, text, err, want)
		}
	}
}
