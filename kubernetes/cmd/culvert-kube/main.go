// Command culvert-kube puts culvert beside the gRPC services of a Kubernetes
// cluster.
//
// Each command is a file. Package inject decides what a pod gets.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, as culvert has them.
const (
	exitDone   = 0
	exitFailed = 1
	exitMisuse = 2 // an unknown flag, argument or command
	exitUnable = 2 // check can't tell whether anything is wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main with the caller's arguments, input and outputs. It returns the exit
// code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand() //nolint:contextcheck // ExecuteContextC gives it to the commands
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "culvert-kube: %s\n", strings.TrimRight(line, "\n"))
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code
	}
	fmt.Fprintf(stderr, "culvert-kube: see \"%s --help\"\n", cmd.CommandPath())
	return exitMisuse
}

// A failure is an error of a command that runs. Other errors are about the command
// line.
type failure struct {
	error
	code int // the exit code
}

func (f *failure) Unwrap() error { return f.error }

// failing marks the errors of a command that runs.
func failing(run func(*cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		if err := run(cmd); err != nil {
			return &failure{err, exitFailed}
		}
		return nil
	}
}
