package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// pages are the pages of JSON, in the order of docs/reference/admin-api.md.
var pages = []struct {
	method, path string // as on the page
	example      string // a request for it
	file         string // of its answer, in testdata/api
	root         reflect.Type
	about        string
	parameters   [][2]string
}{
	{"GET", "/calls", "/calls", "calls", reflect.TypeFor[Calls](), "The calls that are open now: the first of an order, and counts of all. culvert looks at each call once a second, so a call that is younger than a second waits for nobody yet.", [][2]string{
		{"order", "The property that selects the first calls: `" + strings.Join(Orders, "`, `") + "`. By default the oldest come first. `last_message`: the quietest come first"},
		{"limit", fmt.Sprintf("How many calls at most, from 1 to %d. By default %d", maxCalls, defaultCalls)},
		{"id, route, backend, transport, listener", "Only calls with exactly this"},
		{"method, peer, identity", "Only calls with this part in it. `identity` also looks in `client`"},
		{"waits_for", "Only calls that wait for this: `" + strings.Join(WaitsFor, "`, `") + "`. `any` selects all that wait"},
	}},
	{"POST", "/calls/ID/stop", "/calls/3ab426dec4b436a5/stop", "stop", reflect.TypeFor[Stopped](), "Ends one call with ABORTED and the reason [`STOPPED`](errors.md#stopped). The log has a line with the call and with who asked. culvert answers 404 if no open call has the id, and 409 if several have it: clients choose ids.", [][2]string{
		{"began", "The call's `began`, to select one of several with the same id"},
	}},
	{"GET", "/connections", "/connections", "connections", reflect.TypeFor[Connections](), "Open connections of clients, and open calls, by listener and transport.", nil},
	{"GET", "/backends", "/backends", "backends", reflect.TypeFor[Backends](), "Backends with their addresses, health and connections.", nil},
	{"GET", "/routes", "/routes", "routes", reflect.TypeFor[Routes](), "Ended calls by route and backend.", nil},
	{"GET", "/memory", "/memory", "memory", reflect.TypeFor[Memory](), "Memory that culvert counts for its clients ([how](../how-it-works/memory.md)), and the calls, connections and addresses with the most.", [][2]string{
		{"limit", fmt.Sprintf("How many calls, connections and addresses at most, from 0 to %d. By default %d. With 0, culvert looks at none, which is cheaper if many are open", maxHolders, defaultHolders)},
	}},
	{"GET", "/limits", "/limits", "limits", reflect.TypeFor[Limits](), "Refusals by limits and rules.", nil},
	{"GET", "/failures", "/failures", "failures", reflect.TypeFor[Failures](), "The last calls and web requests that failed.", [][2]string{
		{"origin, reason", "Only failures with exactly this"},
	}},
	{"GET", "/certificates", "/certificates", "certificates", reflect.TypeFor[Certificates](), "Certificates in use, the state of each name that culvert obtains certificates for, and what is wrong with them.", nil},
	{"GET", "/auth", "/auth", "auth", reflect.TypeFor[Auth](), "Why culvert refuses callers ([auth](auth.md)), how many calls each rule has decided on, and the state of issuers' keys and of the services that culvert asks. It has no credentials.", nil},
	{"GET", "/status", "/status", "status", reflect.TypeFor[Status](), "Version, configuration, log level and drain.", nil},
}

// TestGeneratedPage holds docs/reference/admin-api.md to the types.
func TestGeneratedPage(t *testing.T) {
	const path = "../docs/reference/admin-api.md"
	want := apiPage(t)
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
		t.Errorf("%s differs from admin/data.go; write it anew with: make generate", path)
	}
}

func apiPage(t *testing.T) []byte {
	var b bytes.Buffer
	b.WriteString(`# The JSON of the admin address

For people whose programs ask a running culvert. This page is generated from ` + "`admin/data.go`" + `.

[The admin address](../guides/admin.md) answers with JSON. Times are RFC 3339 in UTC, and durations are seconds. A text that a peer
sent, such as a method, has at most 512 bytes and an ellipsis; characters that can't be printed are escaped. Fields stay; a later version may
add some. Errors are a line of text with the remedy: 400 for a wrong parameter, 403 for a request that isn't an operator's. Beyond 16
requests at once, culvert answers 503.

` + "```console" + `
$ curl -s 'http://127.0.0.1:9902/calls?order=waiting&waits_for=client&limit=1'
$ curl -s -X POST -H 'Culvert-Admin: 1' http://127.0.0.1:9902/calls/3ab426dec4b436a5/stop
` + "```\n\n")
	w := exampleWriter{&b, typesOf(t), make(map[string]string)}
	for _, page := range pages {
		fmt.Fprintf(&b, "## %s %s\n\n%s\n\n", page.method, page.path, wrapped(page.about))
		if len(page.parameters) > 0 {
			b.WriteString("| parameter | purpose |\n|---|---|\n")
			for _, p := range page.parameters {
				names := "`" + strings.Join(strings.Split(p[0], ", "), "`, `") + "`"
				fmt.Fprintf(&b, "| %s | %s |\n", names, p[1])
			}
			b.WriteString("\n")
		}
		example, err := os.ReadFile(filepath.Join("testdata", "api", page.file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("```jsonc\n{\n")
		w.write(t, page.method+" "+page.path, page.root, example, "")
		b.WriteString("\n```\n\n")
	}
	b.WriteString("Next: [the admin address](../guides/admin.md), [errors](errors.md), [the log](log.md).\n")
	return b.Bytes()
}

// wrapped breaks a paragraph into lines as long as those of other pages.
func wrapped(text string) string {
	const most = 140
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > most {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return strings.Join(append(lines, line), "\n")
}

// An exampleWriter writes examples of answers with the comments of their fields.
type exampleWriter struct {
	*bytes.Buffer
	types map[string]map[string]string // the comments, by type and field
	shown map[string]string            // the request whose answer shows a type, by type
}

// write writes an example of a type behind its "{". A type that the page has already isn't
// shown again.
func (w *exampleWriter) write(t *testing.T, request string, of reflect.Type, example json.RawMessage, indent string) {
	t.Helper()
	w.shown[of.Name()] = request
	var values map[string]json.RawMessage
	if err := json.Unmarshal(example, &values); err != nil {
		t.Fatalf("%s: %v", of.Name(), err)
	}
	indent += "  "
	for i := range of.NumField() {
		f := of.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		about, value := w.types[of.Name()][f.Name], values[name]
		delete(values, name)
		key := fmt.Sprintf("%q: ", name)
		if value == nil { // the example has no such value
			fmt.Fprintf(w, "%s// %s%s\n", indent, key, about)
			continue
		}
		comma := ""
		if len(values) > 0 {
			comma = ","
		}
		inside, before, after := structIn(f.Type)
		if inside == nil {
			fmt.Fprintf(w, "%s\n", commented(indent, key+inOneLine(t, value)+comma, about))
			continue
		}
		if where := w.shown[inside.Name()]; where != "" {
			about = strings.TrimPrefix(about+"; fields as in "+where, "; ")
			fmt.Fprintf(w, "%s\n", commented(indent, key+before+"{…}"+after+comma, about))
			continue
		}
		if before != "" {
			var all []json.RawMessage
			if err := json.Unmarshal(value, &all); err != nil || len(all) == 0 {
				t.Fatalf("%s.%s: %v: the example has no entry", of.Name(), f.Name, err)
			}
			value = all[0]
		}
		fmt.Fprintf(w, "%s\n", commented(indent, key+before+"{", about))
		w.write(t, request, inside, value, indent)
		w.WriteString(after + comma + "\n")
	}
	w.WriteString(strings.TrimPrefix(indent, "  ") + "}")
}

// commented writes a line with a comment behind it, or in lines above it if that is too long.
func commented(indent, line, about string) string {
	const most = 120
	switch {
	case about == "":
		return indent + line
	case len(indent+line+about) < most:
		return indent + line + " // " + about
	}
	var b strings.Builder
	at := 0
	for word := range strings.FieldsSeq(about) {
		switch {
		case at == 0:
			b.WriteString(indent + "//")
		case at+len(word) > most:
			b.WriteString("\n" + indent + "//")
			at = 0
		}
		b.WriteString(" " + word)
		at += len(word) + 1
	}
	return b.String() + "\n" + indent + line
}

// inOneLine writes a text, a number or a list of texts.
func inOneLine(t *testing.T, value json.RawMessage) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, value); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(b.String(), `","`, `", "`)
}

// structIn returns the struct in a type that JSON has as an object or a list of objects, and
// the brackets around it.
func structIn(of reflect.Type) (inside reflect.Type, before, after string) {
	if of.Kind() == reflect.Slice {
		inside, before, after = structIn(of.Elem())
		return inside, "[" + before, after + "]"
	}
	if of.Kind() == reflect.Struct && of != reflect.TypeFor[time.Time]() {
		return of, "", ""
	}
	return nil, "", ""
}

// typesOf returns the comments of fields, by type and field.
func typesOf(t *testing.T) map[string]map[string]string {
	t.Helper()
	types := make(map[string]map[string]string)
	for _, file := range []string{"data.go", "drain.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return false
			}
			fields := make(map[string]string)
			for _, f := range s.Fields.List {
				for _, name := range f.Names {
					fields[name.Name] = strings.TrimSpace(f.Comment.Text())
				}
			}
			types[spec.Name.Name] = fields
			return false
		})
	}
	return types
}
