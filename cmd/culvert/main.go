// Command culvert carries gRPC from browsers and through firewalls to an
// unmodified gRPC server.
//
// Each command is a file, which reads flags and calls a function of another package. In internal,
// serve is the program that serves, dial is the local port, and wiring is where the configuration
// meets the bridge. client/call and client/doctor are what their names say.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc/grpclog"

	"github.com/culvert-grpc/culvert/internal/terminal"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitMisuse = 2 // an unknown flag, argument or command
)

// heapProfileRate is how many allocated bytes lie between two samples of the heap profile on
// the admin address. With Go's default, 512 KiB, the samples took 0.4 % of the CPU time of
// short calls; 40 MB a second still give ten.
const heapProfileRate = 4 << 20

func main() {
	runtime.MemProfileRate = heapProfileRate // before anything is worth a sample
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with the caller's arguments and outputs. It returns the exit
// code.
func run(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand(stdout, stderr)
	if len(args) > 0 && (args[0] == "--version" || args[0] == "-v") {
		args = args[:1] // whatever follows
	}
	root.SetArgs(args)
	cmd, err := root, checkFirstWord(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(context.Background())
	}
	if err == nil {
		return exitDone
	}
	if e, ok := errors.AsType[*exit](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*reported](err); !ok {
		_, _ = io.WriteString(stderr, errorText(err)) // there is no other place to report it
	}
	if _, ok := errors.AsType[*failure](err); ok {
		return exitFailed
	}
	fmt.Fprintf(stderr, "culvert: see \"%s --help\"\n", cmd.CommandPath())
	return exitMisuse
}

// quietLibraries keeps net/http and grpc-go from writing to standard error what the command
// reports itself, unless somebody asks grpc-go for it. It must be called before grpc-go has a
// connection.
var quietLibraries = sync.OnceFunc(func() {
	log.SetOutput(io.Discard)
	if os.Getenv("GRPC_GO_LOG_SEVERITY_LEVEL") == "" {
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}
})

// errorText returns an error in the form for standard error. Servers, proxies and boxes on the
// way may have a part in its text.
func errorText(err error) string {
	var text strings.Builder
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(&text, "culvert: %s\n", terminal.Text(strings.TrimRight(line, "\n")))
	}
	return text.String()
}

// A reported error is already on standard error.
type reported struct{ error }

func (r *reported) Unwrap() error { return r.error }

// An exit ends the program with a code of its own, without a word.
type exit struct{ code int }

func (e *exit) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// A failure is an error of a command that runs. Errors of cobra before a
// command runs, and misuses, are no failures.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// A misuse is a wrong use that only the command itself can detect.
type misuse struct{ error }

func (m *misuse) Unwrap() error { return m.error }

// markFailures wraps the errors of running commands, to distinguish them from
// errors of the command line.
func markFailures(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			err := run(cmd, args)
			var m *misuse
			if err == nil || errors.As(err, &m) {
				return err
			}
			return &failure{err}
		}
	}
	for _, c := range cmd.Commands() {
		markFailures(c)
	}
}

// untilSignal returns a context that ends with the first signal, which may also be one of others
// that isn't ignored. The second one ends the program at once.
func untilSignal(ctx context.Context, others ...os.Signal) (context.Context, context.CancelFunc) {
	others = slices.DeleteFunc(others, signal.Ignored)
	ctx, stop := signal.NotifyContext(ctx, append(others, os.Interrupt, syscall.SIGTERM)...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
