package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestBadFilesChangeNothing: each mistake in routes, and in what belongs to them, is a
// line of validate with file, line and remedy. A reload of the file tells the same, and
// changes nothing: a running stream and new calls continue.
func TestBadFilesChangeNothing(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	b := startBackend(t, backendOptions{})
	head := "listen: [\"127.0.0.1:0\", \"unix:" + filepath.Join(folder, "own.sock") + "\"]\n" +
		"backends: [{name: a, address: \"" + b.address + "\"}, {name: b, address: \"" + b.address + "\"}]\n" +
		"routes:\n- {name: rest, backend: a}\n"
	r := &reloads{file: filepath.Join(folder, "proxy.yaml")}
	replaceFile(t, r.file, []byte(head))
	r.culvert = startCulvert(t, "", culvertOptions{listen: listenByConfig, args: []string{"--config", r.file}})
	conn := dial(t, wire.GRPC, r.address)
	stream := open(t, conn, wire.Bidi, probe.Script{Echo: true})
	said := uint64(0)
	for name, c := range map[string]struct{ more, want string }{ // want without the file's name
		"two routes that match the same": {
			"- {name: one, match: {hosts: [a.example, b.example]}, backend: a}\n- {name: two, match: {hosts: [B.example]}, backend: b}\n",
			`:6: routes[2].match: matches the same requests as the route "one" for the host "b.example": remove one of them, or add a condition to one (`,
		},
		"two routes of one name": {
			"- {name: rest, match: {hosts: [a.example]}, backend: a}\n",
			":5: routes[1].name: is the name of routes[0], too: use another one",
		},
		"a route to no backend": {
			"- {name: one, match: {hosts: [a.example]}, backend: gone}\n",
			`:5: routes[1].backend: names no backend: there is no "gone"; use one of a, b`,
		},
		"weights that sum to 0": {
			"- {name: one, match: {hosts: [a.example]}, split: [{backend: a, weight: 0}, {backend: b, weight: 0}]}\n",
			":5: routes[1].split: has weights that sum to 0: give one backend a weight of 1 or more",
		},
		"a host that can't match": {
			"- {name: one, match: {hosts: [\"a.*.example\"]}, backend: a}\n",
			`:5: routes[1].match.hosts: "a.*.example" has a "*" that is not the first label: write "*.example.com"`,
		},
		"a method that can't match": {
			"- name: one\n  match:\n    methods: [a.B/C, \"a.B/[z-a]\"]\n  backend: a\n",
			`:7: routes[1].match.methods: can match no method: the class "[z-a]" has no characters from 'z' to 'a'; write the lesser one first`,
		},
		"a prefix that excludes the method": {
			"- {name: one, match: {path_prefix: /a.B, methods: [a.C/*]}, backend: a}\n",
			":5: routes[1].match.methods: can match no call: match.path_prefix sets another service or method",
		},
		"metadata that can't match": {
			"- {name: one, match: {metadata: [{name: x-a, value: \"ä\"}]}, backend: a}\n",
			":5: routes[1].match.metadata[0].value: can match no call: values of metadata have printable ASCII characters",
		},
		"a fallback that is culvert itself": {
			"fallback: \"unix:" + filepath.Join(folder, "own.sock") + "\"\n",
			":5: fallback: is the address of listen[1], so culvert would send requests to itself: write the web server's own address",
		},
		"a header of gRPC": {
			"- name: one\n  match: {hosts: [a.example]}\n  backend: a\n  metadata:\n    set:\n    - {name: x-a, value: a}\n    - {name: grpc-timeout, value: 1S}\n",
			":11: routes[1].metadata.set[1].name: can't be set: it is reserved (docs/reference/metadata.md); use another name",
		},
		"a header of the connection": {
			"- {name: one, match: {hosts: [a.example]}, backend: a, metadata: {set: [{name: transfer-encoding, value: chunked}]}}\n",
			":5: routes[1].metadata.set[0].name: can't be set: it is reserved",
		},
		"a pseudo-header": {
			"- {name: one, match: {hosts: [a.example]}, backend: a, metadata: {set: [{name: \":path\", value: /}]}}\n",
			`:5: routes[1].metadata.set[0].name: ":path" is not a metadata name`,
		},
		"a header that can't be removed": {
			"- {name: one, match: {hosts: [a.example]}, backend: a, metadata: {remove: [x-a, grpc-status]}}\n",
			`:5: routes[1].metadata.remove: "grpc-status" is no metadata that a client can send: remove the entry`,
		},
		"half a file": {
			"- {name: one, match: {hosts: [a.example]}, backend: a}\n- {name: two, match: {hos",
			":5: not YAML: did not find expected",
		},
	} {
		t.Run(name, func(t *testing.T) {
			replaceFile(t, r.file, []byte(head+c.more))
			validate := exec.Command(culvertProgram, "validate", r.file)
			validate.Env = environment()
			out, err := validate.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "culvert: "+r.file+c.want) {
				t.Errorf("validate: %v\n%swant %s", err, out, c.want)
			}
			r.signal(t, syscall.SIGHUP)
			r.refuses(t, r.file+c.want)
			say(t, stream, said)
			said++
			if status, _ := routed(t, wire.Web, r.address, wire.Unary, false); status.Code != 0 {
				t.Errorf("a new call ends with %v", status)
			}
		})
	}
	replaceFile(t, r.file, []byte(head+"- {name: one, match: {hosts: [a.example]}, backend: b}\n"))
	r.signal(t, syscall.SIGHUP)
	r.becomes(t, "routes")
}
