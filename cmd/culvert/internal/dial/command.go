package dial

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

// A StartError reports a command that can't be started.
type StartError struct {
	Command string
	Err     error
}

func (e *StartError) Error() string {
	if e.Missing() {
		return e.Command + ": there is no such command"
	}
	return e.Command + ": " + sockets.Cause(e.Err).Error()
}

// Unwrap returns the system's error.
func (e *StartError) Unwrap() error { return e.Err }

// Missing reports whether there is no such command.
func (e *StartError) Missing() bool {
	return errors.Is(e.Err, exec.ErrNotFound) || errors.Is(e.Err, fs.ErrNotExist)
}

// run runs a command with the port's address in CULVERT_DIAL, and passes signals on to it. The
// end of the context kills it.
func run(ctx context.Context, command []string, address string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "CULVERT_DIAL="+address)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 16)
	if noticed := slices.DeleteFunc(slices.Clone(passed), signal.Ignored); len(noticed) > 0 { // nohup's are the command's, too
		signal.Notify(signals, noticed...)
		defer signal.Stop(signals)
	}
	if err := cmd.Start(); err != nil {
		return &StartError{command[0], err}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if passesOn(s, onTerminal()) {
				_ = cmd.Process.Signal(s) // it fails only once the command has ended
			}
		case err := <-ended:
			return err
		}
	}
}

// passesOn reports whether the command needs a signal from dial.
func passesOn(s os.Signal, onTerminal bool) bool {
	return !onTerminal || !slices.Contains(byTerminal, s)
}
