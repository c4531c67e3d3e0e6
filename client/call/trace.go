package call

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/internal/terminal"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// A trace tells in words what crosses the wire, with the time since the beginning. A nil trace
// tells nothing. Several goroutines may use it.
type trace struct {
	mu    sync.Mutex
	to    io.Writer
	began time.Time
	muted bool // only notes are told
}

// The sides of a trace.
const (
	sent     = "→"
	received = "←"
	note     = "·"
)

func newTrace(to io.Writer) *trace { return &trace{to: to, began: time.Now()} }

// say writes a line. A multi-line text becomes several lines.
func (t *trace) say(side, format string, args ...any) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.muted && side != note {
		return
	}
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		fmt.Fprintf(t.to, "%9.3fs %s %s\n", time.Since(t.began).Seconds(), side, terminal.Text(line))
	}
}

// mute has the trace tell only notes, or everything again.
func (t *trace) mute(yes bool) {
	if t != nil {
		t.mu.Lock()
		t.muted = yes
		t.mu.Unlock()
	}
}

// passed returns the time since the trace began.
func (t *trace) passed() time.Duration {
	if t == nil {
		return 0
	}
	return time.Since(t.began).Round(time.Millisecond / 10)
}

// fields writes a line for each header field, without secrets.
func (t *trace) fields(side string, fields map[string][]string) {
	if t == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, value := range fields[name] {
			t.say(side, "  %s: %s", strings.ToLower(name), shown(name, value))
		}
	}
}

// hidden stands for a secret.
const hidden = "(hidden)"

// credentialWords are parts of the names of header fields that have credentials. secretWords
// are those of fields that may have secrets: they are hidden, and may cross the network.
var (
	credentialWords = []string{"authorization", "cookie", "token", "jwt", "assertion", "secret", "passw", "api-key", "apikey", "credential"}
	secretWords     = append([]string{"auth", "key", "session", "signature"}, credentialWords...)
)

// secretSchemes begin values that are credentials, whatever the field is called. RFC 9110 §11.4.
var secretSchemes = []string{"bearer ", "basic "}

func hasSecretScheme(value string) bool {
	return slices.ContainsFunc(secretSchemes, func(scheme string) bool { return strings.HasPrefix(strings.ToLower(value), scheme) })
}

func hasAny(name string, words []string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(name, word) })
}

// shown returns the value of a header field as a person may see it: secrets are hidden.
func shown(name, value string) string {
	name = strings.ToLower(name)
	if name == "sec-websocket-protocol" {
		return websocket.WithoutBearer(value)
	}
	if name == ":authority" || strings.HasPrefix(name, "access-control-") || strings.HasSuffix(name, "-authenticate") {
		return value
	}
	if hasAny(name, secretWords) || hasSecretScheme(value) {
		return hidden
	}
	return value
}

// shownMetadata returns metadata as a person may see it: binary values in base64, no secrets.
func shownMetadata(md metadata.MD) map[string][]string {
	all := make(map[string][]string, len(md))
	for name, values := range md {
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			all[name] = append(all[name], shown(name, v))
		}
	}
	return all
}

// bytesOf returns a size in words.
func bytesOf(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}
