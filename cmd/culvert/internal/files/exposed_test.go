package files

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// openFolder returns a folder that everybody on this host can enter, as those
// of t.TempDir aren't.
func openFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "culvert-open-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // left behind in a temporary directory
	chmod(t, dir, 0o755)
	return dir
}

func chmod(t *testing.T, name string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func makeFile(t *testing.T, name string, mode fs.FileMode) string {
	t.Helper()
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	chmod(t, name, mode)
	return name
}

func makeFolder(t *testing.T, name string, mode fs.FileMode) string {
	t.Helper()
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	chmod(t, name, mode)
	return name
}

func TestKeysThatOthersCanGetAt(t *testing.T) {
	const read, changed = "read", "changed"
	for mode, want := range map[fs.FileMode]string{
		0o600: "", 0o400: "", 0o640: "", 0o440: "", 0o660: "", 0o601: "",
		0o644: read, 0o604: read, 0o444: read, 0o602: changed, 0o666: changed, 0o777: changed,
	} {
		dir := openFolder(t)
		key := makeFile(t, filepath.Join(dir, "tls.key"), mode)
		inside := makeFile(t, filepath.Join(makeFolder(t, filepath.Join(dir, "private"), 0o700), "tls.key"), mode)
		// As in a volume of Kubernetes: tls.key -> ..data/tls.key, ..data -> ..2026.
		mounted := makeFile(t, filepath.Join(makeFolder(t, filepath.Join(dir, "..2026"), 0o755), "tls.key"), mode)
		chmod(t, dir, 0o755)
		for link, to := range map[string]string{"..data": "..2026", "link.key": "..data/tls.key"} {
			if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
				t.Fatal(err)
			}
		}
		for file, want := range map[string]string{key: want, inside: "", filepath.Join(dir, "link.key"): want, mounted + "-none": ""} {
			var wants []string
			if want != "" {
				wants = []string{file + " … " + want + " … chmod 640"}
			}
			wantExposed(t, "tls:\n  cert: c.pem\n  key: "+file+"\n", "tls.key: ", wants)
			wantExposed(t, "backend: {tls: {cert: c.pem, key: "+file+"}}\n", "backend.tls.key: ", wants)
			wantExposed(t, "admin: {token: "+file+"}\n", "admin.token: ", wants)
			wantExposed(t, "admin: {tls: {cert: c.pem, key: "+file+"}}\n", "admin.tls.key: ", wants)
		}
	}
}

// wantExposed compares what is said of a file's secrets behind their key. The
// parts of each want are separated by " … ": the prose between them can change.
func wantExposed(t *testing.T, text, key string, want []string) {
	t.Helper()
	got := Exposed(cmdtest.Load(t, text))
	if len(got) != len(want) {
		t.Errorf("%s has %q, want %q", text, got, want)
		return
	}
	for i := range want {
		if !says(got[i], key+" … "+want[i]) {
			t.Errorf("%s has %q, want %q", text, got[i], key+want[i])
		}
	}
}

// says reports whether text has the parts of want, which are separated by
// " … ", in any order. The empty want is the empty text.
func says(text, want string) bool {
	lacks := func(part string) bool { return !strings.Contains(text, part) }
	return (want != "" || text == "") && !slices.ContainsFunc(strings.Split(want, " … "), lacks)
}

// Each file is told of once, where it stands.
func TestExposedKeysAreToldOnce(t *testing.T) {
	dir := openFolder(t)
	a, b, c := makeFile(t, filepath.Join(dir, "a.key"), 0o644), makeFile(t, filepath.Join(dir, "b.key"), 0o644), makeFile(t, filepath.Join(dir, "c.key"), 0o644)
	got := Exposed(cmdtest.Load(t, `
listen:
  - 127.0.0.1:1
  - 127.0.0.1:2
  - address: 127.0.0.1:3
    tls:
      certificates:
        - {cert: c.pem, key: `+c+`}
tls:
  cert: a.pem
  key: `+a+`
  certificates:
    - {cert: b.pem, key: `+b+`}
`))
	want := []string{":11: tls.key: … " + a, ":13: tls.certificates[0].key: … " + b, ":8: listen[2].tls.certificates[0].key: … " + c}
	if len(got) != len(want) {
		t.Fatalf("%q, want %q", got, want)
	}
	for i := range want {
		if want := want[i] + " … read … chmod 640"; !says(got[i], want) {
			t.Errorf("%q, want %q", got[i], want)
		}
	}
}

func TestStorageThatOthersCanGetAt(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o700: "", 0o770: "", 0o711: "", 0o704: "", 0o706: "",
		0o755:                 "look",
		0o777:                 "write",
		0o777 | os.ModeSticky: "write",
	} {
		dir := openFolder(t)
		for folder, want := range map[string]string{makeFolder(t, filepath.Join(dir, "acme"), mode): want, filepath.Join(dir, "none"): ""} {
			var wants []string
			if want != "" {
				wants = []string{"everybody … " + want + " … " + folder + " … chmod 700"}
			}
			wantExposed(t, "tls: {acme: {domains: [a.example.com], storage: "+folder+"}}\n", "tls.acme.storage: ", wants)
		}
	}
}

// All files that decide who may enter are looked at, and told of once, where
// they stand.
func TestFilesThatDecideWhoMayEnter(t *testing.T) {
	dir := openFolder(t)
	for _, name := range []string{"c.pem", "d.pem", "clients.pem", "vips.pem", "crl.pem", "backend.pem", "own.pem", "root.pem"} {
		makeFile(t, filepath.Join(dir, name), 0o646)
	}
	eab := makeFile(t, filepath.Join(dir, "eab"), 0o604)
	if err := os.WriteFile(eab, []byte("c2VjcmV0"), 0o604); err != nil {
		t.Fatal(err)
	}
	c := cmdtest.Load(t, strings.ReplaceAll(`
listen: 127.0.0.1:1
tls:
  cert: DIR/c.pem
  key: DIR/none.key
  certificates:
    - {cert: DIR/d.pem, key: DIR/none.key, client_ca: DIR/vips.pem}
  client_ca: DIR/clients.pem
  crls: [DIR/crl.pem]
  acme:
    domains: [a.example.com]
    ca_root: DIR/root.pem
    storage: DIR/none
    eab: {key_id: kid, hmac_key: "file:DIR/eab"}
backend:
  address: localhost:2
  tls: {ca: DIR/backend.pem, cert: DIR/own.pem, key: DIR/none.key}
`, "DIR", dir))
	c.File = makeFile(t, filepath.Join(dir, "proxy.yaml"), 0o646)
	got := Exposed(c)
	want := []string{"tls.acme.eab.hmac_key: … " + dir + "/eab … read … chmod 640"}
	for _, f := range [][2]string{
		{"", "proxy.yaml"},
		{"tls.client_ca: ", "clients.pem"},
		{"tls.cert: ", "c.pem"},
		{"tls.certificates[0].client_ca: ", "vips.pem"},
		{"tls.certificates[0].cert: ", "d.pem"},
		{"tls.crls: ", "crl.pem"},
		{"backend.tls.ca: ", "backend.pem"},
		{"backend.tls.cert: ", "own.pem"},
		{"tls.acme.ca_root: ", "root.pem"},
	} {
		want = append(want, f[0]+" … "+dir+"/"+f[1]+" … changed … chmod 644")
	}
	if len(got) != len(want) {
		t.Fatalf("%d warnings, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
	for i := range want {
		if !says(got[i], want[i]) {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}

	// One folder, one line.
	chmod(t, dir, 0o777)
	folders := 0
	for _, w := range Exposed(c) {
		if says(w, "replaced … everybody … directory "+dir+" … chmod go-w") {
			folders++
		}
	}
	if folders != 1 {
		t.Errorf("the directory is in %d warnings", folders)
	}
}

// TestFilesOfAuthThatOthersCanGetAt: each key that names one is told of at its place.
func TestFilesOfAuthThatOthersCanGetAt(t *testing.T) {
	dir := openFolder(t)
	for _, name := range []string{"token", "keys-token", "ext.key", "rl.key"} {
		makeFile(t, filepath.Join(dir, name), 0o604)
	}
	for _, name := range []string{"keys.json", "id.pem", "keys.pem", "api-keys", "ext.pem", "ext-own.pem", "rl.pem", "rl-own.pem"} {
		makeFile(t, filepath.Join(dir, name), 0o646)
	}
	got := Exposed(cmdtest.Load(t, strings.ReplaceAll(`
backend: {address: localhost:2}
auth:
  issuers:
  - {name: a, issuer: 'https://a.example', audiences: [x], token_file: DIR/token, ca: DIR/id.pem, keys_token_file: DIR/keys-token, keys_ca: DIR/keys.pem}
  - {name: b, issuer: b, audiences: [x], keys_file: DIR/keys.json}
  api_keys: {file: DIR/api-keys}
  external: {address: 'a:1', tls: {ca: DIR/ext.pem, cert: DIR/ext-own.pem, key: DIR/ext.key}}
  rate_limit: {address: 'a:1', domain: a, descriptors: [{entries: [{key: a, value: b}]}], tls: {ca: DIR/rl.pem, cert: DIR/rl-own.pem, key: DIR/rl.key}}
`, "DIR", dir)))
	slices.Sort(got)
	var want []string
	for key, file := range map[string]string{"issuers[0].token_file": "token", "issuers[0].keys_token_file": "keys-token", "external.tls.key": "ext.key", "rate_limit.tls.key": "rl.key"} {
		want = append(want, "auth."+key+": … "+dir+"/"+file+" … read … chmod 640")
	}
	for key, file := range map[string]string{
		"issuers[1].keys_file": "keys.json", "issuers[0].ca": "id.pem", "issuers[0].keys_ca": "keys.pem", "api_keys.file": "api-keys",
		"external.tls.ca": "ext.pem", "external.tls.cert": "ext-own.pem", "rate_limit.tls.ca": "rl.pem", "rate_limit.tls.cert": "rl-own.pem",
	} {
		want = append(want, "auth."+key+": … "+dir+"/"+file+" … changed … chmod 644")
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(line string) bool { return says(line, w) }) {
			t.Errorf("no warning %q", w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d warnings, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
	}
}
