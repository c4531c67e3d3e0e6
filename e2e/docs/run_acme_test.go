package docs

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/libdns/cloudflare" // of docs/guides/acme.md: it has to be at hand without a network

	"github.com/culvert-grpc/culvert/e2e/pebble"
)

// fetchesCertificates reports whether a configuration orders certificates by ACME.
func fetchesCertificates(b block) bool { return strings.Contains(b.text, "\n  acme:\n") }

// runACME serves with an example until a call gets through, and once more with the
// certificate that is then in storage. A CA of this machine stands in for Let's
// Encrypt or the company's CA.
func runACME(t *testing.T, b block) {
	ca, err := pebble.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer ca.Close()
	const inContainer = `listen: ":8443"` // the ports that 443 and 80 are mapped to
	port := ":443"
	options := pebble.Options{HTTPPort: 80, TLSPort: 443, Life: time.Hour, Hosts: true}
	if strings.Contains(b.text, inContainer) {
		port, options.HTTPPort, options.TLSPort = ":8443", 8080, 8443
	}
	const storage = "/var/lib/culvert/acme"
	text := strings.Replace(b.text, storage, t.TempDir()+storage, 1)
	if name := regexp.MustCompile(`key_id: (\S+)`).FindStringSubmatch(text); name != nil {
		const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
		options.Accounts = map[string]string{name[1]: key}
		text = strings.Replace(text, "/etc/culvert/acme/eab.key", writeFile(t, "eab.key", key+"\n"), 1)
	}
	if err := ca.Start(options); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "directory:") {
		text = strings.NewReplacer("https://ca.corp.example/acme/acme/directory", ca.Directory, "/etc/culvert/acme/root.pem", ca.Root).Replace(text)
	} else {
		text = strings.Replace(text, "  acme:\n", "  acme:\n    directory: "+ca.Directory+"\n    ca_root: "+ca.Root+"\n", 1)
	}
	file := writeFile(t, "proxy.yaml", text)
	if said, err := output(t, root, culvertProgram, "validate", "--partial", file); err != nil || strings.Contains(said, "warning") {
		t.Errorf("culvert validate: %v\n%s", err, said)
	}
	startDemoBackend(t)
	// pebble makes a new root at each start.
	trusting := &tls.Config{ServerName: "grpc.example.com", InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	for range 2 {
		p := startProcess(t, root, culvertProgram, "serve", "--config", file)
		p.logged(t, "listening")
		for deadline := time.Now().Add(time.Minute); ; {
			err := callOverTLS(t, "grpc.example.com"+port, trusting)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no certificate is fetched: %v\n%s", err, ca.Lines())
			}
		}
		p.end(t)
	}
	if n := ca.Said(pebble.Ordered); n != 1 {
		t.Errorf("%d certificates were ordered, want one", n)
	}
}

// wantVolume compares a container's description with the image and with the
// configuration beside it: the volume's owner, the storage inside it, and ports.
func wantVolume(t *testing.T, b block) {
	if slices.Contains(b.options, "compose") {
		wantTimeToDrain(t, b)
	}
	wantImageOwners(t, b)
	mounts := mountsOf(b)
	if len(mounts) == 0 {
		t.Error("no volume is mounted")
	}
	for _, p := range readPages(t) {
		for _, other := range p.blocks {
			if p.path != b.page || other.section != b.section || !fetchesCertificates(other) {
				continue
			}
			storage := regexp.MustCompile(`storage: (/\S+)`).FindStringSubmatch(other.text)
			for _, m := range mounts {
				if storage == nil || !strings.HasPrefix(storage[1], m+"/") {
					t.Errorf("storage %q isn't below the volume at %s", storage, m)
				}
			}
			wantMappedPorts(t, b, other)
			return
		}
	}
	t.Error("no configuration beside it has a storage")
}

// mountsOf returns the paths at which a container's description mounts volumes.
func mountsOf(b block) (paths []string) {
	for _, m := range regexp.MustCompile(`(?:acme:|mountPath: )(/\S+)`).FindAllStringSubmatch(b.text, -1) {
		paths = append(paths, m[1])
	}
	return paths
}

// wantImageOwners compares the owners that a container's description gives to volumes
// with the image's user.
func wantImageOwners(t *testing.T, b block) {
	t.Helper()
	// culvert can read it as YAML, and knows none of its keys.
	file := writeFile(t, "foreign.yaml", b.text)
	if said, err := output(t, root, culvertProgram, "validate", file); err == nil || !strings.Contains(said, "foreign.yaml:1: ") {
		t.Errorf("%v\n%s", err, said)
	}
	image, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	user := regexp.MustCompile(`(?m)^USER (\d+):(\d+)$`).FindStringSubmatch(string(image))
	if user == nil {
		t.Fatal("the Dockerfile has no USER with numbers")
	}
	owners := regexp.MustCompile(`chown (\d+):(\d+)|fsGroup: ()(\d+)`).FindAllStringSubmatch(b.text, -1)
	if len(owners) == 0 {
		t.Error("nothing sets the owner of the volume")
	}
	for _, o := range owners {
		if o[1] != "" && o[1] != user[1] || o[2]+o[4] != user[2] {
			t.Errorf("%s: the image's user is %s:%s", o[0], user[1], user[2])
		}
	}
}

// wantMappedPorts holds the ports that a container publishes to those that the
// configuration has.
func wantMappedPorts(t *testing.T, b, config block) {
	for _, m := range regexp.MustCompile(`"\d+:(\d+)"`).FindAllStringSubmatch(b.text, -1) {
		if !strings.Contains(config.text, `":`+m[1]+`"`) {
			t.Errorf("port %s is published, and nothing listens there", m[1])
		}
	}
}

// storageOfAnother starts culvert with a storage that it may not write to.
func storageOfAnother(w witness) {
	dir := w.TempDir()
	if err := os.MkdirAll(dir+"/var/lib/culvert", 0o700); err != nil {
		w.Fatal(err)
	}
	if err := os.Chmod(dir+"/var/lib/culvert", 0o500); err != nil {
		w.Fatal(err)
	}
	file := writeFile(w, "proxy.yaml", "tls:\n  acme:\n    domains: [grpc.example.com]\n    storage: "+dir+"/var/lib/culvert/acme\n")
	// Root may write everywhere, but for this capability.
	text, err := output(w, dir, "setpriv", "--bounding-set", "-dac_override", culvertProgram,
		"serve", "--config", file, "--listen", "127.0.0.1:0", "--health-listen", "off", "--backend", "localhost:1")
	if err == nil {
		w.Error("culvert started with a storage that it may not write to")
	}
	w.saw(strings.ReplaceAll(text, dir+"/var", "/var"))
}

// providerModule is the DNS provider that the page builds culvert with.
const providerModule = "github.com/libdns/cloudflare"

// buildWithProvider builds culvert with the block as one of its files. That program
// then validates the page's configuration that names the provider.
func buildWithProvider(t *testing.T, b block) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	// Beside the tree, which stays as it is.
	source := write("provider.go", []byte(b.text))
	where, err := filepath.Abs(filepath.Join(root, "cmd", "culvert", "dns_provider.go"))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{where: source}})
	if err != nil {
		t.Fatal(err)
	}
	mod := write("go.mod", append(read("go.mod"), "\nrequire "+providerModule+" "+providerVersion(t)+"\n"...))
	write("go.sum", bytes.Join([][]byte{read("go.sum"), read("e2e/go.sum")}, nil))
	program := filepath.Join(dir, "culvert")
	said, err := output(t, root, "go", "build", "-mod=mod", "-modfile", mod, "-overlay", write("overlay.json", overlay), "-o", program, "./cmd/culvert")
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, p := range readPages(t) {
		for _, other := range p.blocks {
			if p.path != b.page || !strings.Contains(other.text, "dns_provider:") {
				continue
			}
			token := write("token", []byte("secret"))
			file := write("proxy.yaml", []byte(strings.ReplaceAll(other.text, "/etc/culvert/dns.token", token)))
			if said, err := output(t, dir, program, "validate", "--partial", file); err != nil || strings.Contains(said, "warning") {
				t.Errorf("culvert validate: %v\n%s", err, said)
			}
			if said, err := output(t, dir, culvertProgram, "validate", file); err == nil || !strings.Contains(said, "docs/guides/acme.md#by-dns") {
				t.Errorf("a program without the provider: %v\n%s", err, said)
			}
			return
		}
	}
	t.Error("no configuration of the page names a DNS provider")
}

// providerVersion returns the version that this module requires.
func providerVersion(t *testing.T) string {
	t.Helper()
	said, err := output(t, filepath.Join(root, "e2e"), "go", "list", "-m", "-f", "{{.Version}}", providerModule)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return strings.TrimSpace(said)
}

// wantPinnedProvider compares the page's version of the provider with the one that
// buildWithProvider uses.
func wantPinnedProvider(t *testing.T, b block) {
	if want := "go get " + providerModule + "@" + providerVersion(t) + "\n"; !strings.Contains(b.text, want) {
		t.Errorf("want %q", want)
	}
}
