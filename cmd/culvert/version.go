package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// The linker sets these (-ldflags "-X main.version=… -X main.commit=…"). If
// one is empty, thisBuild takes it from Go's build information.
var version, commit string

type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func (b build) String() string {
	return fmt.Sprintf("culvert %s (commit %s, %s, %s)\n", b.Version, b.Commit, b.Go, b.Platform)
}

func thisBuild() build {
	b := build{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	recorded := map[string]string{}
	for _, s := range info.Settings {
		recorded[s.Key] = s.Value
	}
	if b.Commit == "" && recorded["vcs.revision"] != "" {
		b.Commit = recorded["vcs.revision"]
		if recorded["vcs.modified"] == "true" {
			b.Commit += ", modified"
		}
	}
	b.Version = cmp.Or(b.Version, info.Main.Version, "(devel)")
	b.Commit = cmp.Or(b.Commit, "unknown")
	return b
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go and platform",
		Example: `  culvert version
  culvert version --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(thisBuild())
			}
			return printVersion(cmd)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printVersion(cmd *cobra.Command) error {
	_, err := fmt.Fprint(cmd.OutOrStdout(), thisBuild())
	return err
}
