package tools

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exposure is the most that "systemd-analyze security" may find, in tenths. The unit
// has 15: culvert needs the network, its ports below 1024 and the limit of open files.
const exposure = "16"

// TestUnit has systemd judge deploy/systemd/culvert.service, and holds its command and
// its times to the program.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("../deploy/systemd/culvert.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := string(text)
	program := buildProgram(t)

	command := setting(t, unit, "ExecStart")
	const installed = "/usr/local/bin/culvert"
	args, found := strings.CutPrefix(command, installed+" ")
	if !found {
		t.Fatalf("ExecStart=%s: want %s, where the guide installs it", command, installed)
	}
	run(t, nil, program, append(strings.Fields(args), "--help")...) // an unknown flag is an error before the help

	guide, err := os.ReadFile("../docs/guides/systemd.md")
	if err != nil {
		t.Fatal(err)
	}
	_, config, _ := strings.Cut(args, "--config ")
	for _, shown := range []string{" " + config + "\n", "`tls.acme.storage: /var/lib/" + setting(t, unit, "StateDirectory") + "/"} {
		if !strings.Contains(string(guide), shown) {
			t.Errorf("the guide doesn't have %q, which the unit needs", shown)
		}
	}
	// Of the types that read notifications, systemd 252 and older know only this one. Without
	// notifications the watchdog would end culvert.
	if is := setting(t, unit, "Type"); is != "notify" {
		t.Errorf("Type=%s, want notify: culvert tells systemd when it serves and reloads", is)
	}
	checks := "ExecReload=" + installed + " validate --config " + config + "\nExecReload=/bin/kill -HUP $MAINPID\n"
	if !strings.Contains(unit, checks) {
		t.Errorf("a reload doesn't check the file first: want\n%s", checks)
	}
	if watchdog, err := time.ParseDuration(setting(t, unit, "WatchdogSec")); err != nil || watchdog < 10*time.Second {
		t.Errorf("WatchdogSec=%v (%v): a busy machine needs 10 s at least", watchdog, err)
	}

	patience, err := time.ParseDuration(setting(t, unit, "TimeoutStopSec"))
	drain := configOf(t, program).Drain
	if err != nil || patience <= drain+afterDrain {
		t.Errorf("TimeoutStopSec=%v (%v): want more than drain_timeout (%v) and %v", patience, err, drain, afterDrain)
	}

	// Of the unit as it is, systemd would want the program to be installed.
	unit = strings.ReplaceAll(unit, installed, program)
	file := filepath.Join(t.TempDir(), "culvert.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := os.ReadFile("../deploy/systemd/culvert.socket")
	if err != nil {
		t.Fatal(err)
	}
	socketFile := filepath.Join(filepath.Dir(file), "culvert.socket") // systemd looks for the service beside it
	if err := os.WriteFile(socketFile, socket, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, nil, "systemd-analyze", "verify", socketFile, file); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	run(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold="+exposure, file)
}

// TestTwoInstances has systemd judge the units of the guide that share one socket.
func TestTwoInstances(t *testing.T) {
	dir := t.TempDir()
	write := func(path string, text []byte) {
		path = filepath.Join(dir, strings.TrimPrefix(path, "/etc/systemd/system/"))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	guide, err := os.ReadFile("../docs/guides/systemd.md")
	if err != nil {
		t.Fatal(err)
	}
	additions := regexp.MustCompile("(?ms)^```ini\n# (/etc/systemd/system/\\S+)\n(.*?)^```$").FindAllSubmatch(guide, -1)
	if len(additions) != 2 {
		t.Fatalf("the guide has %d additions to units, want 2", len(additions))
	}
	for _, a := range additions {
		write(string(a[1]), a[2])
	}
	program := buildProgram(t)
	for name, as := range map[string]string{"culvert.socket": "culvert.socket", "culvert.service": "culvert@.service"} {
		text, err := os.ReadFile("../deploy/systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		write(as, bytes.ReplaceAll(text, []byte("/usr/local/bin/culvert"), []byte(program)))
	}
	for _, unit := range []string{"culvert.socket", "culvert@a.service", "culvert@b.service"} {
		out := run(t, []string{"SYSTEMD_UNIT_PATH=" + dir + ":"}, "systemd-analyze", "verify", filepath.Join(dir, unit))
		if out != "" {
			t.Errorf("systemd-analyze verify %s:\n%s", unit, out)
		}
	}
}

// TestSocketUnit starts culvert by systemd's own tool with the address of
// deploy/systemd/culvert.socket, which must be that of the template of the configuration.
func TestSocketUnit(t *testing.T) {
	unit, err := os.ReadFile("../deploy/systemd/culvert.socket")
	if err != nil {
		t.Fatal(err)
	}
	template, err := os.ReadFile("../proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	address := setting(t, string(unit), "ListenStream")
	if want := "\nlisten: " + address + "\n"; !strings.Contains(string(template), want) {
		t.Errorf("ListenStream=%s: proxy.yaml has another listen", address)
	}
	path := filepath.Join(t.TempDir(), "s")
	supervisor := exec.CommandContext(t.Context(), "systemd-socket-activate", "--listen="+path,
		buildProgram(t), "serve", "--backend", "localhost:1", "--listen", "unix:"+path, "--health-listen", "off")
	output, err := supervisor.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Listening on ") {
		t.Log(lines.Text())
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // the answer was read
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") // the answer shows it
	answer, err := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 ") {
		t.Errorf("the answer over the socket of the supervisor is %q (%v)", answer, err)
	}
	_ = supervisor.Process.Signal(syscall.SIGTERM) // by now it is culvert
	passed := false
	for lines.Scan() {
		passed = passed || strings.Contains(lines.Text(), "the supervisor passed the socket")
	}
	if err := supervisor.Wait(); err != nil || !passed {
		t.Errorf("culvert ended with %v; it took the socket of the supervisor: %v", err, passed)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("culvert removed the file of the supervisor: %v", err)
	}
}

// setting returns the last value of a name in a unit.
func setting(t *testing.T, unit, name string) string {
	t.Helper()
	all := regexp.MustCompile(`(?m)^`+name+`=(.*)$`).FindAllStringSubmatch(unit, -1)
	if all == nil {
		t.Fatalf("the unit has no %s", name)
	}
	return all[len(all)-1][1]
}

// TestDialUnit has systemd judge the unit of users, and holds its command to the program.
func TestDialUnit(t *testing.T) {
	text, err := os.ReadFile("../deploy/systemd/user/culvert-dial.service")
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/culvert"
	unit, program := string(text), buildProgram(t)
	args, found := strings.CutPrefix(setting(t, unit, "ExecStart"), installed+" ")
	if !found || !strings.HasPrefix(args, "dial ${EDGE} ") {
		t.Fatalf("ExecStart=%s", setting(t, unit, "ExecStart"))
	}
	run(t, nil, program, append(strings.Fields(args), "--help")...) // an unknown flag is an error before the help
	if is := setting(t, unit, "Type"); is != "notify" {
		t.Errorf("Type=%s, want notify: dial tells systemd when its port is open", is)
	}
	file := filepath.Join(t.TempDir(), "culvert-dial.service")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(unit, installed, program)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, []string{"XDG_RUNTIME_DIR=" + t.TempDir()}, "systemd-analyze", "--user", "verify", file); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
}
