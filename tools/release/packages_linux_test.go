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

// inSystem runs a script as root on a copy of this system: it can change everything,
// and nothing stays. The script gets the packages as $1, $2…
func inSystem(t *testing.T, script string, packages ...string) string {
	t.Helper()
	dir := t.TempDir()
	mounts := `mount -t tmpfs tmpfs "$1" && cd "$1" && mkdir up work all && cp -t up "${@:3}" && ` +
		`mount -t overlay -o lowerdir=/,upperdir=up,workdir=work overlay all && ` +
		`mount -t proc proc all/proc && mount --rbind /dev all/dev && exec chroot all bash -euo pipefail -c "$2" bash `
	for _, p := range packages {
		mounts += " /" + filepath.Base(p)
	}
	isolate := []string{"--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "-euo", "pipefail", "-c", mounts, "bash", dir, "export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin; cd /\n" + script}
	return run(t, "unshare", append(isolate, packages...)...)
}

// use is what an operator does with the installed package, before removing it.
const use = `
test "$(getent passwd culvert | cut -d: -f7)" = /usr/sbin/nologin
test "$(stat -c '%U %G %a' /etc/culvert/proxy.yaml)" = 'root culvert 640'
setpriv --reuid culvert --regid culvert --clear-groups culvert validate --config /etc/culvert/proxy.yaml
culvert version
systemctl --root=/ enable culvert.service culvert.socket 2>/dev/null
test -e /etc/systemd/system/multi-user.target.wants/culvert.service
systemctl --root=/ disable culvert.service culvert.socket 2>/dev/null
# Older versions of systemd don't know this type: the guide has what to set.
[ "$(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" -ge 253 ] || sed -i s/notify-reload/notify/ /usr/lib/systemd/system/culvert.service
test -z "$(systemd-analyze verify culvert.socket culvert.service 2>&1 | tee /dev/stderr)"
bash -c '. /usr/share/bash-completion/bash_completion; . /usr/share/bash-completion/completions/culvert
	COMP_WORDS=(culvert heal) COMP_CWORD=1 COMP_LINE="culvert heal" COMP_POINT=12; __start_culvert 2>/dev/null; test "${COMPREPLY[*]}" = healthcheck'
fish -c 'complete -C "culvert heal"' | grep -q '^healthcheck'
`

// TestDebianPackage installs, upgrades, removes and purges with dpkg.
func TestDebianPackage(t *testing.T) {
	s := snapshotOf(t)
	out := inSystem(t, `
dpkg -i "$1" "$2"`+use+`
culvert-kube version
zsh -c 'autoload -U compinit && compinit -u -D && test "$_comps[culvert]" = _culvert && test "$_comps[culvert-kube]" = _culvert-kube'
echo '# changed' >>/etc/culvert/proxy.yaml
dpkg -i "$1" </dev/null # the same version again, as an upgrade
grep -q '# changed' /etc/culvert/proxy.yaml
dpkg -r culvert culvert-kube
test ! -e /usr/bin/culvert
test ! -e /usr/lib/systemd/system/culvert.service
grep -q '# changed' /etc/culvert/proxy.yaml
dpkg -P culvert
test ! -e /etc/culvert/proxy.yaml
getent passwd culvert >/dev/null
echo all done`, s.only(t, "culvert_*_"+runtime.GOARCH+".deb"), s.only(t, "culvert-kube_*_"+runtime.GOARCH+".deb"))
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
	out := inSystem(t, `
rpm --nodeps -i "$1" "$2"`+use+`
culvert-kube version
echo '# changed' >>/etc/culvert/proxy.yaml
rpm --nodeps -U --replacepkgs "$1"
grep -q '# changed' /etc/culvert/proxy.yaml
rpm -e culvert culvert-kube
test ! -e /usr/bin/culvert
test ! -e /usr/lib/systemd/system/culvert.service
grep -q '# changed' /etc/culvert/proxy.yaml.rpmsave
echo all done`, culvert, s.only(t, "culvert-kube-0*-1."+machine+".rpm"))
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
