package release

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestPackageFiles unpacks the packages and compares their files.
func TestPackageFiles(t *testing.T) {
	s := snapshotOf(t)
	for _, c := range []struct {
		program, pattern, unpack, completion, license string
		service                                       map[string]fs.FileMode
	}{
		{"culvert", "culvert_*_" + runtime.GOARCH + ".deb", `dpkg-deb -x "$1" "$2"`, "usr/share/zsh/vendor-completions/_culvert", "usr/share/doc/culvert/copyright", ofService},
		{"culvert", "culvert-0*.rpm", `bsdtar -xpf "$1" -C "$2"`, "usr/share/zsh/site-functions/_culvert", "usr/share/licenses/culvert/LICENSE", ofService},
		{"culvert-kube", "culvert-kube_*_" + runtime.GOARCH + ".deb", `dpkg-deb -x "$1" "$2"`, "usr/share/zsh/vendor-completions/_culvert-kube", "usr/share/doc/culvert-kube/copyright", nil},
		{"culvert-kube", "culvert-kube-0*.rpm", `bsdtar -xpf "$1" -C "$2"`, "usr/share/zsh/site-functions/_culvert-kube", "usr/share/licenses/culvert-kube/LICENSE", nil},
	} {
		if strings.HasSuffix(c.pattern, ".rpm") {
			machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
			c.pattern = strings.Replace(c.pattern, "*.rpm", "*-1."+machine+".rpm", 1)
		}
		t.Run(c.pattern, func(t *testing.T) {
			dir := t.TempDir()
			run(t, "sh", "-c", c.unpack, "sh", s.only(t, c.pattern), dir)
			want := map[string]fs.FileMode{
				"usr/bin/" + c.program:                                       0o755,
				"usr/share/bash-completion/completions/" + c.program:         0o644,
				"usr/share/fish/vendor_completions.d/" + c.program + ".fish": 0o644,
				c.completion: 0o644,
				c.license:    0o644,
			}
			maps.Copy(want, c.service)
			if got := tree(t, dir); !maps.Equal(got, want) {
				t.Errorf("it has %v, want %v", got, want)
			}
			if got := run(t, filepath.Join(dir, "usr/bin", c.program), "version"); !strings.Contains(got, " "+s.version+" ") {
				t.Errorf("%s version: %q, want %s", c.program, got, s.version)
			}
		})
	}
}

// ofService is what the service adds to the program.
var ofService = map[string]fs.FileMode{
	"etc/culvert/proxy.yaml":                 0o640,
	"usr/lib/systemd/system/culvert.service": 0o644,
	"usr/lib/systemd/system/culvert.socket":  0o644,
}

// inSystem runs a script as root under a systemd of its own, on a copy of this system.
// The script gets the packages as $1, $2…
func inSystem(t *testing.T, script string, packages ...string) string {
	t.Helper()
	job := t.TempDir()
	var names []string
	for _, p := range packages {
		run(t, "cp", p, job)
		names = append(names, "/job/"+filepath.Base(p))
	}
	script = "set -- " + strings.Join(names, " ") + "\n" + script
	if err := os.WriteFile(filepath.Join(job, "job.sh"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	console, err := command(t.Context(), "LC_ALL=C", "unshare", "--mount", "testdata/system.sh", job)
	output, readErr := os.ReadFile(filepath.Join(job, "output"))
	if err != nil || readErr != nil {
		t.Fatalf("%v, %v\n%s%s", err, readErr, console, output)
	}
	return string(output)
}

// Parts of the scripts: what an operator does with the installed package.
const (
	use = `
test "$(getent passwd culvert | cut -d: -f7)" = /usr/sbin/nologin
test "$(stat -c '%U %G %a' /etc/culvert/proxy.yaml)" = 'root culvert 640'
culvert validate --config /etc/culvert/proxy.yaml
culvert version
bash -c '. /usr/share/bash-completion/bash_completion; . /usr/share/bash-completion/completions/culvert
	COMP_WORDS=(culvert heal) COMP_CWORD=1 COMP_LINE="culvert heal" COMP_POINT=12; __start_culvert 2>/dev/null; test "${COMPREPLY[*]}" = healthcheck'
HOME=/tmp fish -c 'complete -C "culvert heal"' | grep -q '^healthcheck'
`
	start = `
test "$(systemctl is-active culvert || true)" = inactive # the operator sets the backend first
test "$(systemctl show -P UnitFileState culvert)" = disabled
found=$(systemd-analyze verify culvert.socket culvert.service 2>&1 || true)
echo "$found"
test -z "$found"
systemctl enable --now culvert
curl -sSf http://127.0.0.1:9901/livez
process=$(systemctl show -P MainPID culvert)
test "$(stat -c %U /proc/$process)" = culvert
tr '\0' ' ' <"/proc/$process/cmdline" | grep '^/usr/bin/culvert serve '
systemctl reload culvert
cp -p /etc/culvert/proxy.yaml /tmp/proxy.yaml
echo 'lissten: :1' >>/etc/culvert/proxy.yaml
if systemctl reload culvert; then
	echo "a wrong file was reloaded"
	exit 1
fi
cp -p /tmp/proxy.yaml /etc/culvert/proxy.yaml
systemctl is-active culvert
echo '# changed' >>/etc/culvert/proxy.yaml
`
	upgraded = `
grep -q '# changed' /etc/culvert/proxy.yaml
restarted=$(systemctl show -P MainPID culvert)
test "$restarted" != 0
test "$restarted" != "$process"
curl -sSf http://127.0.0.1:9901/livez
`
	removed = `
test ! -e /usr/bin/culvert
test ! -e /usr/lib/systemd/system/culvert.service
test ! -e /etc/systemd/system/multi-user.target.wants/culvert.service
test "$(systemctl is-active culvert || true)" = inactive
test ! -e "/proc/$restarted"
getent passwd culvert >/dev/null
echo all done
`
)

// TestDebianPackage installs, upgrades, removes and purges with dpkg.
func TestDebianPackage(t *testing.T) {
	s := snapshotOf(t)
	out := inSystem(t, `dpkg -i "$1" "$2"`+use+`
culvert-kube version
HOME=/tmp zsh -c 'autoload -U compinit && compinit -u -D && test "$_comps[culvert]" = _culvert && test "$_comps[culvert-kube]" = _culvert-kube'`+start+`
dpkg -i "$1" </dev/null # the same version again, as an upgrade`+upgraded+`
dpkg -r culvert culvert-kube
grep -q '# changed' /etc/culvert/proxy.yaml
dpkg -P culvert
test ! -e /etc/culvert/proxy.yaml`+removed, s.only(t, "culvert_*_"+runtime.GOARCH+".deb"), s.only(t, "culvert-kube_*_"+runtime.GOARCH+".deb"))
	wantUse(t, s, out)
}

// TestRPMPackage installs, upgrades and removes with rpm, whose database is empty here:
// it doesn't know that Debian has useradd.
func TestRPMPackage(t *testing.T) {
	s := snapshotOf(t)
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	culvert := s.only(t, "culvert-0*-1."+machine+".rpm")
	if got := run(t, "rpm", "-qp", "--requires", culvert); !strings.Contains(got, "/usr/sbin/useradd\n") {
		t.Errorf("the package requires %q, want useradd, which its script runs", got)
	}
	if got := run(t, "rpm", "-qpc", culvert); got != "/etc/culvert/proxy.yaml\n" {
		t.Errorf("the configuration files are %q, want proxy.yaml", got)
	}
	out := inSystem(t, `rpm --nodeps -i "$1" "$2"`+use+`
culvert-kube version`+start+`
rpm --nodeps -U --replacepkgs "$1"`+upgraded+`
rpm -e culvert culvert-kube
grep -q '# changed' /etc/culvert/proxy.yaml.rpmsave`+removed, culvert, s.only(t, "culvert-kube-0*-1."+machine+".rpm"))
	wantUse(t, s, out)
}

func wantUse(t *testing.T, s *snapshot, out string) {
	t.Helper()
	for _, want := range []string{`(?m)^culvert ` + regexp.QuoteMeta(s.version) + ` `, `(?m)^culvert-kube ` + regexp.QuoteMeta(s.version) + ` `, `(?m)^all done$`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no line %s:\n%s", want, out)
		}
	}
	if _, err := os.Stat("/etc/culvert"); err == nil {
		t.Error("the package was installed on this system")
	}
}
