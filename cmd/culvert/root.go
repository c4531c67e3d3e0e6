package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/culvert-grpc/culvert/config"
)

func newRootCommand(stdout, stderr io.Writer) *cobra.Command {
	cobra.EnableCommandSorting = false // the help begins with what most people look for
	root := &cobra.Command{
		Use:   "culvert",
		Short: "Carry gRPC from browsers and through firewalls to an unmodified gRPC server",
		Long: `culvert takes gRPC, gRPC-Web, Connect, JSON and gRPC over WebSocket on one port
and sends each call to an unmodified gRPC server.

Documentation: ` + documents,
		Example: `  culvert demo
  culvert serve --backend localhost:9000
  culvert validate --config proxy.yaml`,
		Args: knownCommand,
		// run prints errors with their remedy, without the whole usage.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	// cobra's own --version prints another text without a template. The linker keeps every
	// exported method of a program that has templates.
	asked := root.Flags().BoolP("version", "v", false, "version for culvert")
	_ = root.Flags().SetAnnotation("version", cobra.FlagSetByCobraAnnotation, []string{"true"}) // nothing completes after it
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *asked {
			return printVersion(cmd)
		}
		return cmd.Help()
	}
	root.SetOut(stdout) // before cobra's completion command copies it
	root.SetErr(stderr)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		newServeCommand(),
		newDemoCommand(),
		newDialCommand(),
		newCallCommand(),
		newDoctorCommand(),
		newValidateCommand(),
		newConfigCommand(),
		newRoutesCommand(),
		newKeysCommand(),
		newHealthcheckCommand(),
		newDrainCommand(),
		newCallsCommand(),
		newTopCommand(),
		newVersionCommand(),
	)
	root.SetHelpCommand(newHelpCommand(root))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra accepts an unknown shell, as it accepts an unknown command
			c.Args, c.RunE = knownCommand, showHelp
			c.Short = "Print a completion script for a shell"
		}
	}
	markFailures(root)
	return root
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// newHelpCommand is cobra's, except that it refuses an unknown command.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err == nil {
				err = knownCommand(cmd, rest)
			}
			if err != nil {
				return &misuse{err}
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return commandNames(root), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// knownCommand refuses an unknown command, which cobra passes to the root as
// an argument.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	names := commandNames(cmd)
	hint := "the commands are " + strings.Join(names, ", ")
	if near := config.Nearest(args[0], names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("unknown command %q: %s", args[0], hint)
}

// checkFirstWord refuses an unknown command before cobra reads flags, because
// cobra would look for them at the root.
func checkFirstWord(root *cobra.Command, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") || strings.HasPrefix(args[0], "__") { // __complete is cobra's own
		return nil
	}
	cmd, rest, err := root.Find(args[:1])
	if err != nil || cmd != root {
		return err
	}
	return knownCommand(root, rest)
}

// noArguments refuses arguments of a command that takes only flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if flag := cmd.Flags().Lookup("backend"); flag != nil && !flag.Changed && strings.Contains(args[0], ":") {
		hint = fmt.Sprintf(": did you mean --backend %s?", args[0])
	}
	return fmt.Errorf("%s takes no arguments, but got %q%s", cmd.Name(), args[0], hint)
}

// foreignFlags maps flags of similar programs to their replacement here.
var foreignFlags = map[string]string{
	"port":           "use --listen :8080",
	"insecure":       "remove it: culvert uses plaintext to the backend without --backend-tls, and to clients without --tls-cert",
	"verbose":        "use --log-level debug",
	"v":              "use --log-level debug",
	"c":              "use --config",
	"use_websockets": "remove it: WebSockets are always on",
}

// flagError adds the most similar flag to pflag's error about an unknown flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown interface{ GetSpecifiedName() string }
	if !errors.As(err, &unknown) {
		return err
	}
	if hint, ok := foreignFlags[unknown.GetSpecifiedName()]; ok && cmd.Flags().Lookup("backend") != nil {
		return fmt.Errorf("%w: %s", err, hint)
	}
	if long, ok := errors.AsType[*pflag.NotExistError](err); ok && long.GetSpecifiedShortnames() == "" {
		if near := config.Nearest(unknown.GetSpecifiedName(), flagNames(cmd)); near != "" {
			err = fmt.Errorf("%w: did you mean --%s?", err, near)
		}
	}
	return err
}

// flagNames returns the flags of a command from its help, which has all of
// them wherever they were added.
func flagNames(cmd *cobra.Command) []string {
	var names []string
	for word := range strings.FieldsSeq(cmd.Flags().FlagUsages()) {
		if name, ok := strings.CutPrefix(word, "--"); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
