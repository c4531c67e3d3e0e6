package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A key that everybody on the host can read, and a folder for keys that
// everybody can write to, are told at the start and by validate.
func TestExposedKeysAreToldOf(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "culvert-open-") // t.TempDir is in a folder that nobody else can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	certFile, keyFile := writePair(t, dir, "tls", newIssuer(t, "ca").issue("culvert"))
	storage := filepath.Join(dir, "acme")
	if err := os.Mkdir(storage, 0o700); err != nil {
		t.Fatal(err)
	}
	config := "tls:\n  cert: " + certFile + "\n  key: " + keyFile + "\n  acme: {domains: [grpc.culvert.test], storage: " + storage + ", directory: 'https://127.0.0.1:1/dir'}\n"
	file := writeConfig(t, config)
	validate := func() string {
		cmd := exec.Command(culvertProgram, "validate", file, "--listen", "0.0.0.0:0", "--backend", "localhost:1")
		cmd.Env = environment()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("culvert validate: %v\n%s", err, out)
		}
		return string(out)
	}
	if said := validate(); strings.Contains(said, "warning") {
		t.Errorf("of what nobody else can get at it says:\n%s", said)
	}
	for name, mode := range map[string]os.FileMode{dir: 0o755, keyFile: 0o644, storage: 0o777} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	c := startCulvert(t, "127.0.0.1:1", culvertOptions{config: config})
	said := validate()
	for _, want := range [][]string{
		{":3: tls.key: ", keyFile, "read", "chmod 640"},
		{":4: tls.acme.storage: ", storage, "chmod 700"},
	} {
		has := func(text string) bool {
			return !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(text, part) })
		}
		warned := func(line string) bool { return strings.HasPrefix(line, "culvert: warning: "+file) && has(line) }
		if !slices.ContainsFunc(strings.Split(said, "\n"), warned) {
			t.Errorf("culvert validate lacks %q:\n%s", want, said)
		}
		c.loggedLike(t, func(line map[string]any) bool {
			return line["msg"] == "configuration" && has(fmt.Sprint(line["warning"]))
		})
	}
}
