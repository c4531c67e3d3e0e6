package bridge

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// TestWordsOfSettings: an embedder's texts name the fields of Config, unless the embedder has
// words of its own, and what a peer has said stays.
func TestWordsOfSettings(t *testing.T) {
	for _, c := range []struct{ text, fields, file string }{
		{"nothing", "nothing", "nothing"},
		{"over (" + report.Named(report.KeyMethodHeaderBytes) + ")", "over (MethodQuota.HeaderBytes)", "over (limits.methods[].header_bytes)"},
		{"does it need " + report.ToSet(report.KeyBackendTLS, "") + "?", "does it need Backend.TLS?", "does it need --backend-tls?"},
		{"allow it: " + report.ToSet(report.KeyOrigins, "https://a.example"), `allow it: AllowOrigins: "https://a.example"`, "allow it: --allow-origin https://a.example"},
		{"it says {" + report.KeyCalls + "}, \x0e, \x0f\x0ex\x0f and \x0e=\x0f", "it says {limits.calls}, \x0e, \x0f\x0ex\x0f and \x0e=\x0f", "it says {limits.calls}, \x0e, \x0f\x0ex\x0f and \x0e=\x0f"},
		{"\x0e" + report.Named(report.KeyCalls) + "\x0e", "\x0eLimits.Calls\x0e", "\x0elimits.calls\x0e"},
	} {
		if got := report.Words(nil).Say(c.text); got != c.fields {
			t.Errorf("%q says %q, want %q", c.text, got, c.fields)
		}
		if got := report.Words(rules.InFile).Say(c.text); got != c.file {
			t.Errorf("%q says %q by keys, want %q", c.text, got, c.file)
		}
	}
	if err := report.Words(nil).Err(fmt.Errorf("%w: raise %s", io.EOF, report.Named(report.KeyCalls))); !errors.Is(err, io.EOF) || err.Error() != "EOF: raise Limits.Calls" {
		t.Errorf("an error says %v", err)
	}
	f := report.OverLimit(report.KeyCalls, 0, "too many").In(nil)
	if f.Text != "too many (Limits.Calls)" || f.Key != report.KeyCalls || !strings.Contains(f.Status("", false).Message(), "Limits.Calls") {
		t.Errorf("a limit is told as %+v", f)
	}
}

// TestNoWords: a program that has no settings gets texts without the clauses that name them.
func TestNoWords(t *testing.T) {
	none := report.Words(func(string, string, bool) string { return "" })
	a, b := report.Named(report.KeyMessageBytes), report.Named(report.KeyMemory)
	for text, want := range map[string]string{
		"nothing; or so":                                            "nothing; or so",
		"over the limit of 2 (" + a + ")":                           "over the limit of 2",
		"over (" + a + "), it says":                                 "over, it says",
		"send less or raise " + a:                                   "send less",
		"send less, or raise " + a:                                  "send less",
		"wait; raise " + a:                                          "wait",
		"wait; raise it, " + a + " or " + b:                         "wait; raise it",
		"send less, raise " + a + ", or lower " + b + " for others": "send less",
		"add it to " + a + " if it is yours":                        "",
		"set " + a + "; or call again":                              "call again",
		"set " + a + ", or " + b + "; or call again":                "call again",
		"is it yours? add it to " + a:                               "",
		"(add it to " + a + ")":                                     ")",
	} {
		if got := none.Say(text); got != want {
			t.Errorf("%q says %q, want %q", text, got, want)
		}
	}
	for _, row := range report.Reasons(none) {
		for _, text := range []string{row.Meaning, row.Remedy} {
			if strings.ContainsAny(text, "\x0e\x0f_") || strings.HasSuffix(text, "raise") || strings.HasSuffix(text, " or") || strings.ContainsAny(text[max(0, len(text)-1):], ",;: ") || strings.Contains(text, "()") {
				t.Errorf("%s: %q", row.Reason, text)
			}
		}
		t.Logf("%s: %s (%s)", row.Reason, row.Meaning, row.Remedy)
	}
	f := report.OverLimit(report.KeyCalls, 0, "too many")
	f.Remedy = "raise " + report.Named(report.KeyCalls)
	if got := f.In(none).Status("", false).Message(); got != "too many" {
		t.Errorf("%q", got)
	}
	f = report.New(report.ReasonUpstreamUnreachable, "no").Because(io.EOF)
	if got := f.In(none).Status("7", true).Message(); got != "no: EOF (try again)" {
		t.Errorf("%q", got)
	}
}

// TestSettingsAreFields: each marked setting in a text of the table stands for a field that
// there is.
func TestSettingsAreFields(t *testing.T) {
	structs := map[string]reflect.Type{
		"": reflect.TypeFor[Config](), "Limits": reflect.TypeFor[Limits](), "Backend": reflect.TypeFor[Backend](), "NamedBackend": reflect.TypeFor[NamedBackend](),
		"Listener": reflect.TypeFor[Listener](), "Route": reflect.TypeFor[Route](), "MethodQuota": reflect.TypeFor[MethodQuota](), "MessageRoute": reflect.TypeFor[MessageRoute](),
	}
	keys := keysOf(t)
	for _, of := range []string{report.KeyLimits, report.KeyAddressLimits, report.KeyListenerLimits, report.KeyRouteLimits} { // as package quota has them
		keys = append(keys, of+"calls", of+"calls_per_second", of+"handshakes_per_second", of+"decompressed_bytes_per_second", of+"fallback_requests")
	}
	for _, key := range keys {
		of, path, found := strings.Cut(report.Words(nil).Say(report.Named(key)), ".")
		if !found {
			of, path = "", of
		}
		at, known := structs[of]
		if !known {
			t.Errorf("%s is a field of %q, which isn't known", key, of)
			continue
		}
		for name := range strings.SplitSeq(path, ".") {
			field, has := at.FieldByName(name)
			if !has {
				t.Errorf("%s is %s.%s, which there isn't", key, of, path)
				break
			}
			at = field.Type
		}
	}
}

// keysOf returns the keys in package report.
func keysOf(t *testing.T) (keys []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "report/keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if _, of := n.(*ast.BinaryExpr); of { // of a section
			return false
		}
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			key, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_.[]") == "" && !strings.HasSuffix(key, ".") && strings.ContainsAny(key, "._") {
				keys = append(keys, key)
			}
		}
		return true
	})
	if len(keys) < 20 {
		t.Fatalf("only %d keys were found", len(keys))
	}
	return keys
}

// TestTextsMarkTheirSettings: no text of the bridge names a flag or a key of the file. It
// marks a setting, so that an embedder's users read their own words.
func TestTextsMarkTheirSettings(t *testing.T) {
	keys := keysOf(t)
	for i, key := range keys {
		keys[i] = regexp.QuoteMeta(key)
	}
	names := regexp.MustCompile(`--(allow|backend|listen|fallback)-|(^|[^\x0e._a-z])(` + strings.Join(keys, "|") + `)($|[^\x0f=_a-z])`)
	wrong := func(text string) bool { return strings.Contains(text, " ") && names.MatchString(text) }
	if !wrong("raise limits.calls") || !wrong("to allow it: --allow-origin x") || wrong("raise "+report.Named(report.KeyCalls)) || wrong(report.KeyCalls) {
		t.Fatal("the test doesn't see what it looks for")
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "bridgetest") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		if strings.HasPrefix(path, "internal/binding/") { // what is wrong with a route is told by its keys to whoever wrote it
			return nil
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, _ := strconv.Unquote(lit.Value); wrong(text) {
					t.Errorf("%s: %q names a setting: use report.Named or report.ToSet", path, text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
