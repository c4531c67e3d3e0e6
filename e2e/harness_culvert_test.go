package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// culvert is the program under test, running.
type culvert struct {
	*process
	address string // of the public port
	health  string // of /livez and /readyz
}

type culvertOptions struct {
	listen    string // "": a free port of 127.0.0.1; or listenByConfig
	namespace string
	config    string // what proxy.yaml holds
	openFiles int    // its limit; 0: that of the tests
	cgroup    string // the directory of the cgroup to start it in; "": that of the tests
	args      []string
}

// listenByConfig leaves it to config where culvert listens.
const listenByConfig = "by config"

// startCulvert starts culvert in front of the server at target and returns once
// it listens. Without a target, the configuration has the backends.
func startCulvert(t testing.TB, target string, o culvertOptions) *culvert {
	t.Helper()
	if o.listen == "" {
		o.listen = "127.0.0.1:0"
	}
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte(o.config), 0o600); err != nil {
		t.Fatal(err)
	}
	argv := []string{culvertProgram, "serve", "--health-listen", "127.0.0.1:0", "--config", file}
	if target != "" {
		argv = append(argv, "--backend", target)
	}
	if o.listen != listenByConfig {
		argv = append(argv, "--listen", o.listen)
	}
	argv = append(argv, o.args...)
	if o.cgroup != "" {
		argv = append([]string{"sh", "-c", `echo $$ >"$0"/cgroup.procs && exec "$@"`, o.cgroup}, argv...)
	}
	if o.openFiles > 0 {
		argv = append([]string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, o.openFiles)}, argv...)
	}
	c := &culvert{process: startProcess(t, "culvert", o.namespace, argv...)}
	c.address = c.logged(t, "listening", "address")["address"].(string)
	c.health = c.logged(t, "answering health checks", "address")["address"].(string)
	return c
}

// listener returns the address of a named listener.
func (c *culvert) listener(t testing.TB, name string) string {
	t.Helper()
	line := c.loggedLike(t, func(l map[string]any) bool { return l["msg"] == "listening" && l["listener"] == name })
	return line["address"].(string)
}

// startOnTerminal starts culvert with its output on a terminal, as a person does.
func startOnTerminal(t testing.TB, target string, args ...string) *culvert {
	t.Helper()
	master, slave := openTerminal(t)
	cmd := exec.Command(culvertProgram, append([]string{"serve", "--backend", target, "--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(environment(), "TERM=xterm-256color")
	c := &culvert{process: &process{name: "culvert", cmd: cmd, output: newOutput(), exited: make(chan struct{})}}
	c.follow(t, master, slave)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found := regexp.MustCompile(`listening.* address=(\S+)`)
	line, _, err := c.output.find(ctx, 0, found.MatchString)
	if err != nil {
		t.Fatalf("culvert's log: %v", err)
	}
	c.address = found.FindStringSubmatch(line)[1]
	return c
}

// mentions reports whether the message of a log line has all the words, in any
// order: a test names the line by these, and the message can be reworded.
func mentions(line map[string]any, words string) bool {
	msg, _ := line["msg"].(string)
	all := strings.FieldsFunc(msg, func(r rune) bool { return !unicode.IsLetter(r) })
	for word := range strings.FieldsSeq(words) {
		if !slices.Contains(all, word) {
			return false
		}
	}
	return msg != ""
}

// has reports whether a log line has all the fields, each with a text.
func has(line map[string]any, fields ...string) bool {
	return !slices.ContainsFunc(fields, func(name string) bool {
		text, _ := line[name].(string)
		return text == ""
	})
}

// logged waits for the log line that mentions the words and has texts in the named
// fields. It returns all fields of the line.
func (c *culvert) logged(t testing.TB, words string, fields ...string) map[string]any {
	t.Helper()
	return c.loggedLike(t, func(l map[string]any) bool { return mentions(l, words) && has(l, fields...) })
}

// loggedLike waits for a log line that is wanted and returns its fields.
func (c *culvert) loggedLike(t testing.TB, wanted func(line map[string]any) bool) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var found map[string]any
	_, _, err := c.output.find(ctx, 0, func(text string) bool {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) != nil || !wanted(line) {
			return false
		}
		found = line
		return true
	})
	if err != nil {
		t.Fatalf("culvert's log: %v", err)
	}
	return found
}

// said looks whether a log line as logged wants it was written so far.
func (c *culvert) said(words string, fields ...string) error {
	for _, text := range c.output.all() {
		var line map[string]any
		if json.Unmarshal([]byte(text), &line) == nil && mentions(line, words) && has(line, fields...) {
			return nil
		}
	}
	return fmt.Errorf("culvert's log has no line about %q", words)
}
