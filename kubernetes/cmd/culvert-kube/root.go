package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/config"
)

func newRootCommand() *cobra.Command {
	cobra.EnableCommandSorting = false // the help begins with what most people look for
	root := &cobra.Command{
		Use:   "culvert-kube",
		Short: "Put culvert beside the gRPC services of a Kubernetes cluster",
		Long: `culvert-kube puts culvert into the pods of gRPC services, as a native sidecar. A pod
gets it if the pod or its namespace has the label culvert.dev/inject: enabled.`,
		Example: `  culvert-kube inject -f app.yaml --sidecar-image culvert:1.0.0 | kubectl apply -f -
  culvert-kube uninject -f injected.yaml
  culvert-kube check -f app.yaml`,
		Args:          known,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
		Version:       thisBuild(),
	}
	root.SetVersionTemplate("culvert-kube {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: \"%s --help\" lists the flags", err, cmd.CommandPath())
	})
	root.AddCommand(newInjectCommand(), newUninjectCommand(), newCheckCommand(), newWebhookCommand(), newVersionCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra accepts an unknown shell
			c.Args, c.RunE = known, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			c.Short = "Print a completion script for a shell"
		}
	}
	return root
}

// known refuses an unknown command, which cobra passes on as an argument.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := "the commands are " + strings.Join(names, ", ")
	if near := config.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("unknown command %q: %s", args[0], hint)
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no arguments, and got %q", cmd.CommandPath(), args)
	}
	return nil
}
