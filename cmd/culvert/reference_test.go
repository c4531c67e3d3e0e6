package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/culvert-grpc/culvert/config"
)

//go:generate go test -count=1 -run ^TestCommandLinePageMatchesTheCommands$ . -update

var update = flag.Bool("update", false, "write the generated page")

// TestCommandLinePageMatchesTheCommands holds the page to the commands. What
// writes it is here, and not in the shipped program.
func TestCommandLinePageMatchesTheCommands(t *testing.T) {
	const name = "../../docs/reference/cli.md"
	want := commandLinePage(newRootCommand(io.Discard, io.Discard))
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s isn't what the commands say (%v): run `go generate ./cmd/culvert`", name, err)
	}
}

const commandLineHead = `# Command line

For people who run culvert: every command, its flags, and the exit codes. The help of each command (~culvert serve --help~) has more
examples.
`

const commandLineTail = `
## Exit codes

| Code | Meaning |
|---|---|
| 0 | done; for ` + "`culvert serve`" + `, ended by a signal |
| 1 | failed, or ended by a second signal; standard error has the reason. ` + "`culvert doctor`" + `: bidirectional streams aren't possible |
| 2 | wrong use of the command line; standard error names the mistake |
| 3 | ` + "`culvert doctor`" + ` can't tell whether bidirectional streams are possible, or can't write its report |
| 64 and more | ` + "`culvert call`" + `: 64 plus the code of the status, such as 69 for NOT_FOUND |
| 130 | ` + "`culvert call` and `culvert doctor`" + `, interrupted by Ctrl-C |
| any | ` + "`culvert dial --once`" + `: the command's code, and 128 plus the signal that ended it; 127 if there is no such command, 126 if it can't be started |

## Next

- [configuration](configuration.md)
- [health checks and signals](../guides/health-and-signals.md)
- [errors](errors.md)
`

// TestSharedFlagsAreTheSame: the page has them once, in the words of the first command.
func TestSharedFlagsAreTheSame(t *testing.T) {
	root := newRootCommand(io.Discard, io.Discard)
	for _, shared := range sharedFlags {
		for _, name := range shared.flags {
			want := ""
			for _, command := range shared.commands {
				c, _, err := root.Find([]string{command})
				if err != nil || c.Flags().Lookup(name) == nil {
					t.Errorf("culvert %s has no flag --%s (%v)", command, name, err)
					continue
				}
				f := c.Flags().Lookup(name)
				got := fmt.Sprintf("-%s %s %q %s", f.Shorthand, f.Value.Type(), f.DefValue, f.Usage)
				if want == "" {
					want = got
				}
				if got != want {
					t.Errorf("culvert %s has --%s as %s, and culvert %s as %s: leave it out of sharedFlags", command, name, got, shared.commands[0], want)
				}
			}
		}
	}
}

// sharedFlags are flags that several commands have in the same words. The page has them once.
var sharedFlags = []struct {
	title, anchor, about string
	flags, commands      []string
}{
	{"Flags for the way to a server", "flags-for-the-way-to-a-server", "", []string{"ca", "cert", "key", "connect", "proxy"}, []string{"call", "dial", "doctor"}},
	{"Flags for the admin address", "flags-for-the-admin-address", " The commands take the admin address, its certificate and its token from the same\nsources as serve, so on culvert's own host they need no flag.", []string{"admin", "config", "token-file", "admin-ca"}, []string{"calls", "drain", "top"}},
}

// commandLinePage writes the page of all commands that do something.
func commandLinePage(root *cobra.Command) []byte {
	var b bytes.Buffer
	b.WriteString(strings.ReplaceAll(commandLineHead, "~", "`"))
	for _, c := range leaves(root) {
		writeCommand(&b, c)
	}
	for _, shared := range sharedFlags {
		fmt.Fprintf(&b, "\n## %s\n\n`culvert %s` have these flags.%s\n\n| Flag | Meaning |\n|---|---|\n", shared.title, strings.Join(shared.commands, "`, `culvert "), shared.about)
		first, _, _ := root.Find(shared.commands[:1])
		for _, name := range shared.flags {
			writeFlag(&b, first.Flags().Lookup(name), keysByFlag())
		}
	}
	b.WriteString(commandLineTail)
	return b.Bytes()
}

// leaves returns the commands without commands of their own. Those of
// completion, one for each shell, are one.
func leaves(cmd *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, c := range cmd.Commands() {
		switch {
		case !c.IsAvailableCommand() || c.Name() == "help":
		case c.HasAvailableSubCommands() && c.Name() != "completion":
			all = append(all, leaves(c)...)
		default:
			all = append(all, c)
		}
	}
	return all
}

const completionText = `To load the script in the current shell:

| Shell | Command |
|---|---|
| bash | ` + "`source <(culvert completion bash)`" + ` |
| zsh | ` + "`source <(culvert completion zsh)`" + ` |
| fish | ` + "`culvert completion fish \\| source`" + ` |
| PowerShell | ` + "`culvert completion powershell \\| Out-String \\| Invoke-Expression`" + ` |

` + "`culvert completion bash --help`" + ` says how to load it in every new shell.
`

// writeKeyFlags lists the flags that set a key, by the sections of the keys.
func writeKeyFlags(b *bytes.Buffer, flags []*pflag.Flag, keys map[string]config.Key) {
	var sections []string
	links := map[string][]string{}
	for _, f := range flags {
		key := keys[f.Name].Name
		if key == "" {
			continue
		}
		section, _, inside := strings.Cut(key, ".")
		if !inside {
			section = "top level"
		}
		if links[section] == nil {
			sections = append(sections, section)
		}
		links[section] = append(links[section], "[`--"+f.Name+"`](configuration.md#"+strings.ReplaceAll(key, ".", "")+")")
	}
	b.WriteString("\nThese flags set keys of the configuration:\n\n")
	for _, s := range sections {
		fmt.Fprintf(b, "- %s: %s\n", s, strings.Join(links[s], ", "))
	}
}

// inPlaceOfHelp has the commands of whose help the page needs less: the paragraphs that
// it takes, and what it says in place of the others.
var inPlaceOfHelp = map[string]struct {
	paragraphs int
	rest       []string
}{
	"culvert serve": {1, []string{`On signals culvert [drains, ends or reloads](../guides/health-and-signals.md#signals). A supervisor can pass
[listening sockets](../guides/listeners.md#sockets-from-a-supervisor).`}},
	"culvert demo": {0, []string{`demo starts an example gRPC service, culvert in front of it, and a page that calls the service from a browser. A
switch on the page puts a proxy that speaks only HTTP/1.1 into the path.`}},
	"culvert validate":        {1, nil},
	"culvert config defaults": {0, nil},
	"culvert config print": {0, []string{`print shows the effective value of every key, and its source: a flag, a variable, a line of the file, or "default". The
output is a configuration file with the same effect and absolute paths, except that it hides secrets. These are
~tls.acme.eab.hmac_key~, the values in ~tls.acme.dns_settings~ and in ~routes[].metadata.set~, the query of
~tls.acme.directory~, and each value from a variable (~${NAME}~) or another file (~file:/path~).`}},
	"culvert routes explain": {0, []string{`explain prints what culvert does with a call to the URL: the route, the backend, the method and the rules, and why not
another route. With an origin header, it says whether the page may call. It opens no connection. The exit code is 1 if no route matches,
or the listener refuses the call.`}},
	"culvert call": {1, []string{`- **Requests.** ~-d~ has JSON values one after another. culvert sends each value once it is complete, and prints each reply when it
  arrives. Without ~-d~ the request is ~{}~, or no message if the method streams requests.
- **Protocols.** ~websocket~ is ~grpc-websockets~; ~h2ts~ is HTTP/2 inside a WebSocket, which ~dial~ names ~websocket~. With ~message-json~ and
  ~sse~ the URL is that of a route for [bare messages](messages.md), which may have ~{service}~ and ~{method}~. ~auto~ takes the first of
  ~grpc~, ~h2ts~ and ~grpc-web~ that works.
- **Descriptors.** ~list~ prints the services, or the methods of one; ~describe~ prints the source of a service, a method, a message or an
  enum. Files for ~--protoset~ come from ~protoc --include_imports --descriptor_set_out=FILE~ or ~buf build -o FILE~. ~connect-json~,
  ~message-json~ and ~sse~ work without descriptors; then ~connect-json~ makes unary calls only.
- **JSON lines.** With ~--output json~, the first line is ~{"header": {…}}~, and each reply is ~{"message": …}~. The last line is
  ~{"status": {"code": 0, "name": "OK"}, "trailer": {…}}~, or ~{"error": "…"}~ if the call has no status.
- **Secrets.** ~-v~ and ~--output json~ hide the values of headers with credentials. ~call~ sends such headers only over
  TLS with a verified certificate, or in plaintext to this machine without a proxy. Elsewhere, and with ~--insecure~, it refuses the call.`}},
	"culvert dial": {1, []string{`With ~--once~, dial runs a command that finds the port in ~CULVERT_DIAL~, passes signals on to it, and exits with its
code ([local port](../guides/dial.md)).`}},
	"culvert doctor": {1, []string{`[culvert doctor](doctor.md) has its probes, its report, and where it sends the headers of ~-H~.`}},
	"culvert calls": {0, []string{`calls lists the calls that are open now. WAITS FOR tells what a call [waits for](../guides/admin.md#see-who-is-slow),
and SINCE for how long. LAST is the time since the last message. IN and OUT are messages and bytes from and to the client.`}},
	"culvert top": {0, []string{`top shows the state, connections, backends, routes and the first open calls of an order, each second. The key o selects
the next order; q or Ctrl-C ends top. If standard output is no terminal, top prints the page once, with up to 20 calls.`}},
	"culvert healthcheck": {1, nil},
	"culvert drain": {0, []string{`drain has culvert [refuse new calls](../guides/health-and-signals.md#take-culvert-out-of-service-first). In
Kubernetes, run it as the preStop hook.`}},
}

func writeCommand(b *bytes.Buffer, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n", c.CommandPath())
	if c.Name() == "completion" {
		b.WriteString("\n" + completionText)
		return
	}
	paragraphs := slices.DeleteFunc(strings.Split(c.Long, "\n\n"), func(p string) bool { return p == "" || strings.HasPrefix(p, "Documentation:") })
	if short, is := inPlaceOfHelp[c.CommandPath()]; is {
		paragraphs = append(paragraphs[:short.paragraphs], short.rest...)
	}
	if len(paragraphs) == 0 {
		paragraphs = []string{c.Short + "."}
	}
	for _, paragraph := range paragraphs {
		b.WriteString("\n" + strings.ReplaceAll(paragraph, "~", "`") + "\n")
	}
	b.WriteString("\n```sh\n")
	examples := slices.Collect(strings.Lines(c.Example))
	for i, line := range examples[:min(len(examples), 2)] { // the help has all
		if i == 1 {
			line = strings.TrimSuffix(line, "\n")
		}
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	b.WriteString("\n```\n")
	keys := keysByFlag()
	var own []*pflag.Flag
	settings := 0
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if _, setting := keys[f.Name]; setting && c.Flags().Lookup("config") != nil {
			settings++
		}
		own = append(own, f)
	})
	if settings > 1 && c.Name() != "serve" {
		b.WriteString("\nIt takes the flags of [`culvert serve`](#culvert-serve).\n")
		own = slices.DeleteFunc(own, func(f *pflag.Flag) bool {
			return keys[f.Name].Flag != "" || f.Name == "config" || f.Name == "unknown-keys"
		})
		settings = 0
	}
	own = slices.DeleteFunc(own, func(f *pflag.Flag) bool { return f.Name == "help" })
	for _, shared := range sharedFlags {
		if slices.Contains(shared.commands, c.Name()) {
			fmt.Fprintf(b, "\nIt has the [%s](#%s), too.\n", strings.ToLower(shared.title[:1])+shared.title[1:], shared.anchor)
			own = slices.DeleteFunc(own, func(f *pflag.Flag) bool { return slices.Contains(shared.flags, f.Name) })
		}
	}
	if len(own) == 0 {
		return
	}
	if settings > 1 {
		writeKeyFlags(b, own, keys)
		own = slices.DeleteFunc(own, func(f *pflag.Flag) bool { return keys[f.Name].Flag != "" })
	}
	if settings == 0 { // none of its flags sets a key
		keys = nil
	}
	b.WriteString("\n| Flag | Meaning |\n|---|---|\n")
	for _, f := range own {
		writeFlag(b, f, keys)
	}
}

// keysByFlag returns the keys that have a flag, by its name.
func keysByFlag() map[string]config.Key {
	keys := map[string]config.Key{}
	for _, k := range config.Keys() {
		keys[k.Flag] = k
	}
	return keys
}

// writeFlag writes a flag's row. A flag that sets a key has a link to it.
func writeFlag(b *bytes.Buffer, f *pflag.Flag, keys map[string]config.Key) {
	value, usage := pflag.UnquoteUsage(f)
	if k := keys[f.Name]; k.Flag != "" {
		usage = "[`" + k.Name + "`](configuration.md#" + strings.ReplaceAll(k.Name, ".", "") + ")"
	} else if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
		usage += "; default `" + f.DefValue + "`"
	}
	fmt.Fprintf(b, "| `%s` | %s |\n", strings.TrimSpace("--"+f.Name+" "+value), strings.ReplaceAll(usage, "*", `\*`))
}
