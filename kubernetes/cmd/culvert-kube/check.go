package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/kubernetes/check"
	"github.com/culvert-grpc/culvert/kubernetes/check/cluster"
)

type checkCommand struct {
	files     []string
	conf      *configFlags
	namespace string
	all       bool
	cluster   cluster.Options
	output    string
	failOn    string
}

var (
	checkOutputs = []string{"text", "json", "yaml"}
	checkFailOn  = []string{"error", "warning", "never"}
)

func newCheckCommand() *cobra.Command {
	var c checkCommand
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Report which pods get culvert, what is wrong, and who can bypass culvert",
		Long: `check says which pods get culvert, which are refused, and which have an outdated
culvert. It finds what keeps culvert from running or from being reached, and where
clients reach a backend's port past culvert. It prints a NetworkPolicy and a Service
against that.

Without -f, check reads the cluster that kubectl uses, and changes nothing there. It
needs the verbs get and list on pods, deployments, statefulsets, daemonsets, jobs,
cronjobs, services, limitranges, ingresses, networkpolicies, configmaps, endpointslices,
namespaces and mutatingwebhookconfigurations. It says which right is missing, and goes on with the
rest. It reads no Secrets.

With -f, check reads manifests and asks no cluster. It notes missing objects, which
may be in the cluster.

check compares the sidecars with those that the injector makes now, by the injector's
configuration in the cluster or --config. Without one, it compares only the image,
with --sidecar-image.

It exits with 0 if it finds no error, with 1 if it finds one (see --fail-on), and
with 2 if it can't check.`,
		Example: `  culvert-kube check -n shop
  culvert-kube check -A --fail-on warning
  culvert-kube check -n shop --all   # as if the namespace had the label
  culvert-kube check -n shop -o yaml | kubectl apply --dry-run=server -f -
  culvert-kube check -f app.yaml --sidecar-image culvert:1.0.0`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&c.files, "filename", "f", nil, "`file` with manifests, - for standard input; may be given several times")
	c.conf = addConfig(cmd)
	flags.StringVarP(&c.namespace, "namespace", "n", "", "`namespace` to check; with -f, that of objects that name none")
	flags.BoolVarP(&c.cluster.All, "all-namespaces", "A", false, "check all namespaces")
	flags.BoolVar(&c.all, "all", false, "check as if every namespace had the label")
	flags.StringVar(&c.cluster.Kubeconfig, "kubeconfig", "", "`file` with the cluster's address, instead of kubectl's")
	flags.StringVar(&c.cluster.Context, "context", "", "`name` of the context in that file, instead of its current one")
	addChoice(cmd, &c.output, "output", "o", checkOutputs, "`format`: text, json, or yaml for the manifests of the remedies alone")
	addChoice(cmd, &c.failOn, "fail-on", "", checkFailOn, "lowest `severity` that makes the exit code 1: error, warning, or never")
	cmd.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
	for _, other := range []string{"all-namespaces", "kubeconfig", "context"} {
		cmd.MarkFlagsMutuallyExclusive("filename", other)
	}
	return cmd
}

// addChoice adds a flag that is one of some words; the first is the default.
func addChoice(cmd *cobra.Command, to *string, name, short string, words []string, usage string) {
	cmd.Flags().StringVarP(to, name, short, words[0], usage)
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // an error would mean that there is no such flag
}

func (c *checkCommand) run(cmd *cobra.Command) error {
	for flag, choice := range map[string]struct {
		value string
		of    []string
	}{"--output": {c.output, checkOutputs}, "--fail-on": {c.failOn, checkFailOn}} {
		if !slices.Contains(choice.of, choice.value) {
			return fmt.Errorf("%s: %q is none of %s", flag, choice.value, strings.Join(choice.of, ", "))
		}
	}
	report, err := c.report(cmd)
	if err == nil {
		err = printReport(cmd.OutOrStdout(), report, c.output)
	}
	if err != nil {
		return &failure{err, exitUnable}
	}
	switch n := report.Summary; {
	case c.failOn != "never" && n.Errors > 0:
		return &failure{fmt.Errorf("errors found: %d", n.Errors), exitFailed}
	case c.failOn == "warning" && n.Warnings > 0:
		return &failure{fmt.Errorf("warnings found: %d", n.Warnings), exitFailed}
	}
	return nil
}

func (c *checkCommand) report(cmd *cobra.Command) (*check.Report, error) {
	o := check.Options{Image: c.conf.image}
	if c.conf.file != "" || c.conf.image != "" {
		conf, err := c.conf.load()
		if err != nil {
			return nil, err
		}
		if c.conf.file != "" { // an image alone is no configuration
			o.Config = conf
		}
	}
	snapshot, err := c.snapshot(cmd)
	if err != nil {
		return nil, err
	}
	return check.Run(snapshot, o), nil
}

// snapshot reads the files, or the cluster.
func (c *checkCommand) snapshot(cmd *cobra.Command) (*check.Snapshot, error) {
	if len(c.files) > 0 {
		text, err := readAll(c.files, cmd.InOrStdin())
		if err != nil {
			return nil, err
		}
		s := &check.Snapshot{Partial: true, All: c.all, Now: time.Now()}
		return s, s.AddManifests(text, cmp.Or(c.namespace, "default"))
	}
	c.cluster.Namespace = c.namespace
	c.cluster.Progress = progress(cmd.ErrOrStderr())
	reader, err := cluster.Connect(c.cluster)
	if err != nil {
		return nil, err
	}
	s := &check.Snapshot{All: c.all, Now: time.Now()}
	return s, reader.Read(cmd.Context(), s)
}

// progress returns a function that says what is being read, if that takes long.
func progress(to io.Writer) func(kind string, read int) {
	const pause = 2 * time.Second
	last := time.Now()
	return func(kind string, read int) {
		if time.Since(last) > pause {
			last = time.Now()
			fmt.Fprintf(to, "culvert-kube: reading: %s: %d\n", kind, read)
		}
	}
}

func printReport(to io.Writer, r *check.Report, format string) error {
	switch format {
	case "json":
		encoder := json.NewEncoder(to)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(r)
	case "yaml":
		return printManifests(to, r)
	}
	last := ""
	for _, f := range r.Findings {
		if f.Object != last {
			last = f.Object
			fmt.Fprintln(to, printable(f.Object))
		}
		fmt.Fprintf(to, "  %s: %s\n", f.Severity, printable(f.Problem))
		if f.Remedy != "" {
			fmt.Fprintf(to, "    remedy: %s\n", printable(f.Remedy))
		}
		for line := range strings.Lines(f.Manifest) {
			fmt.Fprintf(to, "      %s", line)
		}
	}
	if last != "" {
		fmt.Fprintln(to)
	}
	_, err := fmt.Fprintln(to, r.Summary)
	return err
}

// printable returns text for a terminal. Pods choose parts of it, such as the last line
// of a container's log, and control sequences could change what the reader sees.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return unicode.ReplacementChar
	}, text)
}

// printManifests prints documents for kubectl apply.
func printManifests(to io.Writer, r *check.Report) error {
	var errs []error
	for _, f := range r.Findings {
		if f.Manifest != "" {
			_, err := fmt.Fprintf(to, "---\n%s", f.Manifest)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
