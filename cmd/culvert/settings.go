package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/config"
)

// settings has the configuration from the command line.
type settings struct {
	file        string         // --config
	unknownKeys string         // --unknown-keys
	flags       map[string]any // by key: a string, or a []string for a list
}

// The values of --unknown-keys.
const (
	unknownKeysFail = "error"
	unknownKeysWarn = "warn"
)

// usages are the help texts of the flags that stand for keys. The help calls the
// value by the quoted word.
var usages = map[string]string{
	"listen":              "`address` for clients",
	"tls-cert":            "`file` with the certificate chain (PEM) for clients; turns TLS on",
	"tls-key":             "`file` with the private key (PEM) of --tls-cert",
	"tls-client-ca":       "`file` with CA certificates (PEM) for verifying clients; clients must then present a certificate",
	"tls-self-signed":     "use a certificate for localhost from a CA that culvert creates on this machine, for development",
	"backend":             "the gRPC server: `host:port`, dns:///host:port or unix:///path",
	"backend-tls":         "use TLS to the backend",
	"backend-ca":          "`file` with CA certificates (PEM) for verifying the backend; turns TLS on",
	"backend-cert":        "`file` with the client certificate (PEM) for the backend; turns TLS on",
	"backend-key":         "`file` with the private key (PEM) of --backend-cert; turns TLS on",
	"backend-server-name": "`name` in the backend's certificate; turns TLS on",
	"backend-descriptors": "`file` with the descriptors of the backend's methods, for messages in JSON; for backends without server reflection",
	"allow-origin":        "`origin` of pages that may call, such as https://app.example.com, https://*.example.com or http://localhost:*; repeatable",
	"host":                "host `name` that clients use for culvert, such as grpc.example.com; pages from this host may call; repeatable",
	"allow-method":        "`pattern` of the only methods that clients can call, such as shop.v1.Orders/*; repeatable",
	"deny-method":         "`pattern` of methods that clients can't call; repeatable",
	"path-prefix":         "`prefix` that culvert removes from the path, such as /grpc",
	"fallback":            "`address` of a web server for all requests that aren't calls: http://host:port, https://host or unix:/path",
	"doctor":              "let clients test their network in detail (culvert.v1.Path)",
	"drain-timeout":       "`duration` that culvert may take to end after SIGTERM or SIGINT, while running calls continue",
	"health-listen":       "`address` of /livez and /readyz, or off",
	"admin":               "loopback `address` or unix socket for operators, or off",
	"log-level":           "lowest `level` in the log: debug, info, warn or error",
	"log-format":          "`format` of the log: text, json, or auto (text on a terminal, JSON elsewhere)",
	"errors":              "`level` of detail in culvert's own errors: concise, or detailed (with addresses and causes, for development)",
}

// addSettings gives a command the flags of the configuration: all of them, or
// only those named.
func addSettings(cmd *cobra.Command, only ...string) *settings {
	s := &settings{flags: map[string]any{}}
	flags := cmd.Flags()
	flags.SortFlags = false
	for _, k := range config.Keys() {
		if k.Flag == "" || only != nil && !slices.Contains(only, k.Flag) {
			continue
		}
		usage, ok := usages[k.Flag]
		if !ok {
			panic("BUG: no help for --" + k.Flag)
		}
		flag := flags.VarPF(&settingValue{k, s.flags}, k.Flag, "", usage)
		if k.Bool() {
			flag.NoOptDefVal = "true"
		}
		complete := cobra.NoFileCompletions
		if words := k.Words(); words != nil {
			complete = cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
		} else if strings.HasPrefix(usage, "`file`") {
			complete = nil
		}
		if complete != nil {
			mustComplete(cmd.RegisterFlagCompletionFunc(k.Flag, complete))
		}
	}
	flags.StringVar(&s.file, "config", "", "`file` with the configuration (default $"+config.FileVariable+")")
	mustComplete(cmd.MarkFlagFilename("config", "yaml", "yml"))
	s.unknownKeys = unknownKeysFail
	if only == nil {
		flags.StringVar(&s.unknownKeys, "unknown-keys", unknownKeysFail, "`effect` of keys in the file that this version doesn't know: error, or warn (culvert ignores them)")
		mustComplete(cmd.RegisterFlagCompletionFunc("unknown-keys", cobra.FixedCompletions([]string{unknownKeysFail, unknownKeysWarn}, cobra.ShellCompDirectiveNoFileComp)))
	}
	return s
}

// takeFile lets an argument name the configuration file, in place of --config.
func takeFile(cmd *cobra.Command, s *settings) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 1:
			return fmt.Errorf("%s takes one file, but got %q, too", cmd.Name(), args[1])
		case len(args) == 1 && s.file != "":
			return fmt.Errorf("%s takes one file, but got %q and --config %q", cmd.Name(), args[0], s.file)
		case len(args) == 1:
			s.file = args[0]
		}
		return nil
	}
	cmd.ValidArgsFunction = cobra.FixedCompletions([]string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt)
}

// mustComplete panics on an error about a flag that doesn't exist, which the
// caller has just added.
func mustComplete(err error) {
	if err != nil {
		panic("BUG: " + err.Error())
	}
}

// load reads the configuration. A wrong flag is a misuse, any other mistake a
// failure.
func (s *settings) load() (*config.Loaded, error) {
	err := config.CheckFlags(s.flags)
	if s.unknownKeys != unknownKeysFail && s.unknownKeys != unknownKeysWarn {
		err = errors.Join(err, fmt.Errorf("--unknown-keys: %q is not a known word: write %s or %s", s.unknownKeys, unknownKeysFail, unknownKeysWarn))
	}
	if err != nil {
		return nil, &misuse{err}
	}
	return config.Load(s.options(), s.file, s.flags)
}

func (s *settings) options() config.Options {
	return config.Options{SkipUnknownKeys: s.unknownKeys == unknownKeysWarn}
}

// loadAgain is load for a program that serves.
func (s *settings) loadAgain() (*config.Loaded, error) {
	o := s.options()
	o.RegularFiles = true
	return config.Load(o, s.file, s.flags)
}

func (s *settings) loadKeys(names ...string) (*config.Loaded, error) {
	if err := config.CheckFlags(s.flags); err != nil {
		return nil, &misuse{err}
	}
	return config.LoadKeys(names, s.file, s.flags)
}

// A settingValue is the value of one flag. It accepts every text, because
// checking all flags together reports more mistakes than pflag can.
type settingValue struct {
	key   config.Key
	flags map[string]any
}

func (v *settingValue) Set(text string) error {
	if !v.key.List {
		v.flags[v.key.Name] = text
		return nil
	}
	list, _ := v.flags[v.key.Name].([]string)
	v.flags[v.key.Name] = append(list, text)
	return nil
}

func (v *settingValue) String() string {
	if given, ok := v.flags[v.key.Name]; ok {
		return fmt.Sprint(given)
	}
	return v.key.Default()
}

func (v *settingValue) Type() string {
	if v.key.Bool() {
		return "bool" // or the help would show a value
	}
	return "value"
}
