package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/config"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the defaults, or the effective configuration",
		Example: `  culvert config defaults
  culvert config print --config proxy.yaml`,
		Args: knownCommand,
		RunE: showHelp,
	}
	cmd.AddCommand(newConfigDefaultsCommand(), newConfigPrintCommand())
	return cmd
}

func newConfigDefaultsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "defaults",
		Short: "Print every key with its default and a comment",
		Long: `defaults prints a configuration file with every key and its default. A comment
explains the key and names its variable and its flag. All keys are commented out.
To set a key, remove the "#" before the key and before each section above it.`,
		Example: `  culvert config defaults
  culvert config defaults > proxy.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := io.WriteString(cmd.OutOrStdout(), config.DefaultsFile)
			return err
		},
	}
}

func newConfigPrintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print [file]",
		Short: "Print the effective configuration and the source of each value",
		Long: `print reads the same file, environment and flags as serve, and prints the value
of every key. A comment gives its source: a flag, a variable, a line of the file,
or "default". Keys that nothing sets are commented out. The output is a
configuration file with the same effect, except that it hides secrets. Paths are
absolute, so you can save it in any directory.

Secrets are tls.acme.eab.hmac_key, the values in tls.acme.dns_settings and in
metadata.set of routes, and the query of tls.acme.directory. So is each value that
the configuration takes from a variable (${NAME}) or from another file ("file:/path").`,
		Example: `  culvert config print proxy.yaml
  culvert config print --config proxy.yaml --log-level debug
  CULVERT_BACKEND_ADDRESS=orders:9000 culvert config print`,
	}
	s := addSettings(cmd)
	takeFile(cmd, s)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		loaded, err := s.load()
		if err != nil {
			return err
		}
		return loaded.Print(cmd.OutOrStdout())
	}
	return cmd
}
