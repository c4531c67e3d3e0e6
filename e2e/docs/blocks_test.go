package docs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A runner does what a block says, or holds what it shows to the real thing.
type runner func(t *testing.T, b block)

// runners are chosen by the fence's first word.
var runners = map[string]runner{
	"sh":        runShell,
	"console":   runConsole,
	"yaml":      runYAML,
	"go":        runGo,
	"js":        runJavaScript,
	"python":    runPython,
	"proto":     runProto,
	"http":      runExchange,
	"text":      wantEvidence,
	"json":      wantEvidence,
	"nginx":     runNginx,
	"squid":     runSquid,
	"haproxy":   runHAProxy,
	"caddyfile": runCaddy,
}

// runnersOf are chosen by all words.
var runnersOf = map[string]runner{
	"nginx stream":         runNginxStream,
	"nginx forwarded":      runNginxForwarded,
	"text dial":            wantDialLines,
	"yaml compose":         wantVolume,
	"yaml compose service": wantFolder,
	"yaml pod":             wantVolume,
	"yaml secret":          wantSecret,
	"yaml alb":             runBehindLoadBalancer,
	"yaml nlb":             runBehindLoadBalancer,
	"yaml cloudflare":      runBehindLoadBalancer,
	"yaml ingress-nginx":   runIngressNginx,
	"yaml traefik install": wantTraefikInstall,
	"yaml traefik routing": runTraefik,
	"yaml prometheus":      wantPrometheus,
	"yaml injector":        runInjector,
	"sh cluster":           wantClusterCommands,
}

// notRun lists the blocks that can't be run as they stand, each with what shows
// it to be right instead. A row that fits no block fails, too.
var notRun = []struct {
	page  string // "": any
	holds string // text that the block has
	check runner // what is looked at instead; nil: nothing can be
	why   string
}{
	{"docs/reference/protocols.md", "an empty message, which is", wantFrames, "frames: their lengths are checked"},
	{"docs/reference/grpc-web.md", "grpc-message: no caf", wantTrailersBlock, "the trailers of a call that fails so"},
	{"demo/web/README.md", "npm ci", wantScripts, "make lint runs check, of which build is a part; TestScreenshot runs screenshot.mjs"},
	{"docs/guides/from-grpcwebproxy.md", "grpcwebproxy --backend_addr", wantForeignFlags, "what is to be left behind: its flags are held to the page's table, which was made from its source"},
	{"docs/guides/acme.md", "RegisterDNSProvider", buildWithProvider, "it is a file of culvert's own program, which is built with it and judges the configuration below it"},
	{"docs/guides/acme.md", "go get github.com/libdns", wantPinnedProvider, "it changes go.mod: the program is built with a copy of that"},
	{"docs/guides/acme.md", "dns_provider:", nil, "it takes the program that is built with the file above it, which judges it"},
	{"docs/guides/certificates.md", "openssl req", runOpenSSL, "it writes files: it is run elsewhere, and served with"},
	{"docs/guides/admin.md", "openssl rand", nil, "it writes a file of culvert's user: e2e/admin_access_test.go serves with one"},
	{"docs/guides/admin.md", "Authorization: Bearer", wantCommandLines, "culvert isn't on that host: e2e/admin_access_test.go asks one with the header, and drains it"},
	{"docs/guides/auth/oidc.md", "culvert call", wantCommandLines, "that host isn't here: e2e/identity serves with the configuration and calls"},
	{"docs/guides/auth/opa.md", "docker run", nil, "it takes a container engine"},
	{"docs/guides/auth/opa.md", "package shop.authz", nil, "e2e/identity has OPA's library judge calls by it"},
	{"docs/guides/auth/api-keys.md", "culvert keys new", wantCommandLines, "it writes a file: e2e/identity runs it, and serves with the file"},
	{"docs/guides/systemd.md", "systemctl", wantInstalled, "it takes root and a running systemd: tools/systemd_linux_test.go has systemd judge the unit"},
	{"docs/guides/systemd.md", "culvert@", nil, "tools/systemd_linux_test.go has systemd judge both instances"},
	{"docs/guides/dial.md", "systemctl", wantInstalled, "it takes a running systemd: tools/systemd_linux_test.go has systemd judge the unit"},
	{"docs/guides/dial.md", "EDGE=", nil, "the unit's file of variables: tools/systemd_linux_test.go holds the unit to the program"},
	{"docs/guides/dial.md", "docker run", nil, "it takes a container engine: the command of the image is run above"},
	{"docs/guides/dial.md", "ManagedChannelBuilder", nil, "it takes grpc-java"},
	{"docs/guides/dial.md", "tonic::transport", nil, "it takes tonic"},
	{"docs/guides/dial.md", "SocketsHttpHandler", nil, "it takes .NET"},
	{"docs/guides/corporate-proxies.md", "culvert doctor", wantCommandLines, "the edge and the proxy aren't here: e2e/doctor_test.go runs it behind real ones"},
	{"docs/reference/doctor.md", "\"findings\"", nil, "client/doctor/docs_test.go holds it to a report"},
	{"docs/guides/packages.md", "gpg --verify", nil, "it takes a release: tools/release/verify_test.go verifies the signature and the checksums of a snapshot"},
	{"docs/guides/packages.md", "apt install", nil, "it takes a package: tools/release/packages_linux_test.go installs it"},
	{"docs/guides/packages.md", "dnf install", nil, "the same"},
	{"docs/guides/packages.md", "systemctl", nil, "the same: it validates the configuration, and starts the service under a systemd of its own"},
	{"docs/guides/packages.md", "tar -xf", nil, "it takes an archive: tools/release/archives_test.go unpacks all and runs the programs"},
	{"docs/reference/culvert-kube.md", "culvert-kube", wantCommandLines, "the examples of --help: each command line is parsed; kubernetes/cmd/culvert-kube runs the commands"},
	{"docs/reference/admin-api.md", "{\n  \"", nil, "answers with examples of values: admin/data_test.go holds them to the types"},
	{"docs/guides/admin.md", "culvert calls --slow", wantCommandLines, "slow calls aren't here: cmd/culvert/internal/top holds the table to the program"},
	{"docs/reference/cli.md", "culvert", wantCommandLines, "the examples of --help, for programs and files that aren't here: each command line is parsed"},
	{"docs/guides/container.md", "docker run", wantImageRun, "it takes a container engine: the program is given the variables and arguments instead; tools/images/image_linux_test.go builds and runs the image"},
	{"docs/start/page.md", "document.querySelector", nil, "a file of a page that the commands below it bundle: they are run, and the page is opened"},
	{"docs/start/page.md", "<!doctype html>", nil, "the same"},
	{"docs/start/install.md", "docker run", wantImageRun, "it takes a container engine; tools/images/image_linux_test.go builds and runs the image without one"},
	{"docs/guides/container.md", "docker compose", nil, "it takes a container engine; tools/images/image_linux_test.go builds and runs the image without one, tools/compose_test.go holds the file to the program"},
}

// TestBlocks runs every fenced block of every page.
func TestBlocks(t *testing.T) {
	used := make([]bool, len(notRun))
	for _, p := range readPages(t) {
		for _, b := range p.blocks {
			row := rowOf(b)
			if row >= 0 {
				used[row] = true
			}
			t.Run(b.place(), func(t *testing.T) {
				if row >= 0 {
					if check := notRun[row].check; check != nil {
						check(t, b)
					}
					return
				}
				run, known := runners[b.language]
				if special, ok := runnersOf[b.language+" "+strings.Join(b.options, " ")]; ok {
					run = special
				}
				if !known {
					t.Fatalf("no way to run a block of the language %q; give it one, or list it in notRun", b.language)
				}
				if b.language == "yaml" && slices.Contains(b.options, "manifest") {
					run = wantManifests
				}
				if isProject(b) {
					run = runProject
				}
				run(t, b)
			})
		}
	}
	for i, row := range notRun {
		if !used[i] {
			t.Errorf("no block of %q holds %q: remove the row", row.page, row.holds)
		}
	}
}

// rowOf returns the first row of notRun that fits a block, or -1.
func rowOf(b block) int {
	for i, row := range notRun {
		if (row.page == "" || row.page == b.page) && strings.Contains(b.text, row.holds) {
			return i
		}
	}
	return -1
}

// wantScripts holds the commands of a page beside a package.json to scripts that
// are there.
func wantScripts(t *testing.T, b block) {
	dir := filepath.Join(root, filepath.Dir(b.page))
	text, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Scripts map[string]string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands(b.text) {
		words := strings.Fields(c)
		switch words[0] + " " + words[1] {
		case "npm ci":
		case "npm run":
			if manifest.Scripts[words[2]] == "" {
				t.Errorf("%s: package.json has no such script", c)
			}
		default:
			if _, err := os.Stat(filepath.Join(dir, words[1])); words[0] != "node" || err != nil {
				t.Errorf("%s: no such program: %v", c, err)
			}
		}
	}
}

// wantForeignFlags holds another program's command line to the flags in the page's
// table.
func wantForeignFlags(t *testing.T, b block) {
	page, err := os.ReadFile(filepath.Join(root, b.page))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(b.text) {
		name, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(name, "--") && !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("the table has no %s", name)
		}
	}
}

// wantCommandLines holds command lines to the program: an unknown command or flag is an
// error before the help is shown.
func wantCommandLines(t *testing.T, b block) {
	for _, c := range commands(b.text) {
		c, _, _ = strings.Cut(c, " #")
		c, _, _ = strings.Cut(c, " >")
		for part := range strings.SplitSeq(c, " | ") {
			if strings.HasPrefix(part, "culvert") {
				needKube(t, part)
				part, _, _ = strings.Cut(part, " -- ") // behind it stands another program's
				wantOK(t, part+" --help")
			}
		}
	}
}

// indented reports whether a page has a block of code that isn't fenced, which
// nothing here would run.
func indented(p page) (number int, found bool) {
	blank, list := true, false
	for _, l := range p.prose {
		text := strings.TrimSpace(l.text)
		switch {
		case text == "":
			blank = true
			continue
		case strings.HasPrefix(l.text, "    ") && blank && !list:
			return l.number, true
		case !strings.HasPrefix(l.text, " "):
			list = strings.HasPrefix(l.text, "- ") || strings.HasPrefix(l.text, "* ") || '0' <= l.text[0] && l.text[0] <= '9'
		}
		blank = false
	}
	return 0, false
}

func TestCodeIsFenced(t *testing.T) {
	for _, p := range readPages(t) {
		if n, found := indented(p); found {
			t.Errorf("%s:%d: code without a fence: nothing runs it", p.path, n)
		}
	}
}
