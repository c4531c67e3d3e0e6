package telemetry

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

func parsed(t testing.TB, names ...string) Fields {
	t.Helper()
	f, err := ParseFields(names)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFieldsOfCalls(t *testing.T) {
	long := strings.Repeat("x", 300)
	all := []string{"host", "user_agent", "metadata.x-tenant", "metadata.x-forwarded-for"}
	for name, c := range map[string]struct {
		fields []string
		host   string
		md     metadata.MD
		want   string
	}{
		"none":                    {nil, "h", metadata.MD{"x-tenant": {"a"}}, ""},
		"all":                     {all, "h:1", metadata.MD{"x-tenant": {"a"}, "x-forwarded-user-agent": {"grpc-go/1"}, "x-forwarded-for": {"192.0.2.1"}, "authorization": {"Bearer t"}}, "host=h:1 user_agent=grpc-go/1 metadata.x-tenant=a metadata.x-forwarded-for=192.0.2.1 "},
		"values that aren't sent": {all, "", metadata.MD{"x-tenant": {""}}, ""},
		"no metadata":             {all, "h", nil, "host=h "},
		"several values":          {all, "", metadata.MD{"x-tenant": {"a", "b", ""}}, `metadata.x-tenant="a, b, " `},
		"a long value":            {all, "", metadata.MD{"x-tenant": {long}}, "metadata.x-tenant=" + long[:256] + "… "},
		"many values":             {all, "", metadata.MD{"x-tenant": slices.Repeat([]string{"abcdef"}, 1e5)}, `metadata.x-tenant="` + strings.Repeat("abcdef, ", 32) + `…" `},
		"values that forge lines": {all, "h\nlevel=ERROR", metadata.MD{"x-tenant": {"a level=ERROR msg=\"forged\""}, "x-forwarded-user-agent": {"\x1b[31m"}}, `host="h\nlevel=ERROR" user_agent="\x1b[31m" metadata.x-tenant="a level=ERROR msg=\"forged\"" `},
	} {
		t.Run(name, func(t *testing.T) {
			info := &report.CallInfo{ID: "c1", Transport: "grpc", Method: "/a.B/C", Peer: "p", Authority: c.host, Origin: report.OriginUpstream}
			got := lines(slog.LevelInfo, func(o *Log) {
				o.SetFields(parsed(t, c.fields...))
				o.CallBegan(t.Context(), info, c.md).Ended(info)
			})
			if want := "level=INFO msg=call call_id=c1 transport=grpc method=/a.B/C peer=p " + c.want + "code=OK origin=upstream messages_in=0 messages_out=0 bytes_in=0 bytes_out=0 duration_ms=0\n"; got != want {
				t.Errorf("got  %swant %s", got, want)
			}
		})
	}
}

// TestFieldsAreTakenAtTheBegin: the metadata of a call may change or be freed later, and the
// operator may change the fields.
func TestFieldsAreTakenAtTheBegin(t *testing.T) {
	got := lines(slog.LevelInfo, func(o *Log) {
		o.SetFields(parsed(t, "metadata.x-tenant"))
		md := metadata.MD{"x-tenant": {"before"}}
		info := &report.CallInfo{}
		call := o.CallBegan(t.Context(), info, md)
		md["x-tenant"][0] = "after"
		o.SetFields(parsed(t, "host"))
		call.Ended(info)
		o.SetFields(parsed(t))
		o.CallBegan(t.Context(), info, md).Ended(info)
	})
	if strings.Count(got, "metadata.x-tenant=before") != 1 || strings.Contains(got, "after") || strings.Contains(got, "host") {
		t.Error(got)
	}
}

// TestFieldsCountAsMemoryOfTheCall: what the Log keeps for a running call, and nothing for a
// call without a value.
func TestFieldsCountAsMemoryOfTheCall(t *testing.T) {
	o := NewLog(slog.New(slog.DiscardHandler))
	o.SetFields(parsed(t, "host", "user_agent", "metadata.x-tenant"))
	for name, c := range map[string]struct {
		md   metadata.MD
		want int32
	}{
		"no value":     {metadata.MD{"x-other": {"abc"}}, 0},
		"two values":   {metadata.MD{"x-forwarded-user-agent": {"12345"}, "x-tenant": {"a", "b"}}, 32 + 3*40 + 5 + len32("a, b")},
		"a long value": {metadata.MD{"x-tenant": {strings.Repeat("x", 1<<20)}}, 32 + 3*40 + 256 + len32("…")},
	} {
		info := &report.CallInfo{}
		o.CallBegan(t.Context(), info, c.md)
		if info.Kept != c.want {
			t.Errorf("%s: %d bytes are kept, want %d", name, info.Kept, c.want)
		}
	}
	if observer, attr := unsafe.Sizeof(callWithFields{}), unsafe.Sizeof(slog.Attr{}); observer > 32 || attr > 40 {
		t.Errorf("an observer with fields takes %d bytes, and an attribute %d: more than is counted", observer, attr)
	}
}

func len32(s string) int32 { return int32(len(s)) }

// TestFieldsRefuseSecrets, also for programs without a configuration file.
func TestFieldsRefuseSecrets(t *testing.T) {
	for _, names := range [][]string{{"metadata.authorization"}, {"host", "metadata.x-session-token"}, {"cookie"}, slices.Repeat([]string{"host"}, rules.MaxLogFields+1)} {
		if f, err := ParseFields(names); err == nil || f.names != nil {
			t.Errorf("%q: %+v, %v", names, f, err)
		}
	}
}

func TestLineOfACallsBegin(t *testing.T) {
	info := &report.CallInfo{ID: "c1", Transport: "grpc", Method: "/a.B/C", Peer: "p", Route: "eu", Listener: "public", Authority: "h"}
	own := &report.CallInfo{ID: "c2", Method: "/culvert.v1.Path/Echo", Own: true}
	chatty := &report.CallInfo{ID: "c3", Method: "/a.Chatty/C"}
	const want = `msg="call began" call_id=c1 transport=grpc method=/a.B/C peer=p listener=public route=eu host=h` + "\n"
	for name, c := range map[string]struct {
		begin bool
		level slog.Level
		call  *report.CallInfo
		want  string
	}{
		"on":                          {true, slog.LevelInfo, info, "level=INFO " + want},
		"off":                         {false, slog.LevelInfo, info, ""},
		"a quiet log":                 {true, slog.LevelWarn, info, ""},
		"at debug level":              {true, slog.LevelDebug, info, "level=INFO " + want},
		"off, at debug level":         {false, slog.LevelDebug, info, "level=DEBUG " + want},
		"culvert's own service":       {true, slog.LevelInfo, own, ""},
		"a sampled method":            {true, slog.LevelInfo, chatty, ""},
		"the same in detail":          {true, slog.LevelDebug, chatty, `level=DEBUG msg="call began" call_id=c3 transport="" method=/a.Chatty/C peer=""` + "\n"},
		"a method with all its lines": {true, slog.LevelInfo, &report.CallInfo{ID: "c4", Method: "/a.Rare/C"}, `level=INFO msg="call began" call_id=c4 transport="" method=/a.Rare/C peer=""` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := lines(c.level, func(o *Log) {
				o.SetBegin(c.begin)
				o.SetFields(parsed(t, "host"))
				o.SetSamples([]Sample{{"a.Chatty/*", 100}, {"a.Rare/*", 1}})
				o.CallBegan(t.Context(), c.call, nil)
			})
			if got != c.want {
				t.Errorf("got  %swant %s", got, c.want)
			}
		})
	}
}

// TestNoFieldsCostNothing: no allocation, and with fields one for their values, one for
// each value, and one for the observer.
func TestNoFieldsCostNothing(t *testing.T) {
	o := NewLog(slog.New(slog.NewTextHandler(new(bytes.Buffer), &slog.HandlerOptions{Level: slog.LevelError})))
	info, md := &report.CallInfo{Code: codes.OK, Begin: time.Now()}, metadata.MD{"x-tenant": {"a"}, "x-other": {"b"}}
	call := func() { o.CallBegan(t.Context(), info, md).Ended(info) }
	if n := testing.AllocsPerRun(100, call); n > 0 {
		t.Errorf("without fields a call takes %v allocations", n)
	}
	o.SetFields(parsed(t, "metadata.x-tenant", "metadata.x-other"))
	if n := testing.AllocsPerRun(100, call); n > 4 {
		t.Errorf("with two fields a call takes %v allocations, want 4", n)
	}
}

// TestLogFieldsAreDocumented holds docs/reference/log.md to the fields that there are and the
// names that are refused.
func TestLogFieldsAreDocumented(t *testing.T) {
	const path, begin, end = "../docs/reference/log.md", "<!-- by TestLogFieldsAreDocumented -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ends := strings.Cut(rest, end)
	if !ok || !ends {
		t.Fatalf("%s has no place for the fields", path)
	}
	var b strings.Builder
	b.WriteString("| field | value |\n|---|---|\n")
	for _, f := range rules.LogFields {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.Name, f.Value)
	}
	b.WriteString(strings.ReplaceAll(`
The attribute has the name of the field. culvert refuses binary metadata ('-bin'), the metadata in 'message.first_message' of a route and in
['auth.api_keys.header'](configuration.md#authapi_keysheader), and names that may hold a secret. The words of a name have '-', '_' or '.'
between them. A number at the end of a word has no effect.

| refused names | |
|---|---|
`, "'", "`"))
	fmt.Fprintf(&b, "| a word ends with one of these, also before an `s` | %s |\n", listed(rules.SecretEndings))
	fmt.Fprintf(&b, "| a word ends with `key`, unless one of these is before it, as in `idempotency-key` | %s |\n", listed(rules.HarmlessKeys))
	fmt.Fprintf(&b, "| the last word is one of these | %s |\n", listed(rules.SecretLasts))
	fmt.Fprintf(&b, "| the name is one of these | %s |\n", listed(rules.SecretNames))
	want := before + begin + b.String() + end + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Errorf("%s differs from internal/rules/log.go; write it anew with: make generate", path)
	} else if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func listed(names []string) string { return "`" + strings.Join(names, "`, `") + "`" }
