package tools

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
	// Other types send no notifications, and the watchdog would end culvert.
	if is := setting(t, unit, "Type"); is != "notify-reload" {
		t.Errorf("Type=%s, want notify-reload: culvert tells systemd when it serves and reloads", is)
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
	unit = strings.Replace(unit, installed, program, 1)
	if version(t) < 253 { // it doesn't know notify-reload: the guide says what to take instead
		older := block(t, "../docs/guides/systemd.md", "ini")
		_, older, _ = strings.Cut(older, "[Service]\n")
		unit = strings.Replace(unit, "Type=notify-reload\n", older, 1)
	}
	file := filepath.Join(t.TempDir(), "culvert.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, nil, "systemd-analyze", "verify", file); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	run(t, nil, "systemd-analyze", "security", "--offline=true", "--threshold="+exposure, file)
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

// version returns systemd's.
func version(t *testing.T) (number int) {
	t.Helper()
	out := run(t, nil, "systemd-analyze", "--version")
	if _, err := fmt.Sscanf(out, "systemd %d", &number); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return number
}
