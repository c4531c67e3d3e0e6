package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// The linker sets these (-ldflags "-X main.version=… -X main.commit=…").
var version, commit string

// thisBuild describes this program in one line.
func thisBuild() string {
	info := buildInfo()
	return fmt.Sprintf("%s (commit %s, %s, %s/%s)",
		thisVersion(info), cmp.Or(commit, "unknown"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func buildInfo() *debug.BuildInfo {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info
	}
	return new(debug.BuildInfo)
}

func thisVersion(info *debug.BuildInfo) string { return cmp.Or(version, info.Main.Version, "(devel)") }

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit, Go and platform",
		Example: "  culvert-kube version",
		Args:    noArguments,
		RunE: failing(func(cmd *cobra.Command) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "culvert-kube", thisBuild())
			return err
		}),
	}
}
