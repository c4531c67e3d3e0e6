package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// Again runs this program a second time, such as in namespaces of its own, and returns its
// exit code. The second process finds the value, in JSON, in a variable. It ends with this
// one.
func Again(ctx context.Context, variable string, value any, attributes *syscall.SysProcAttr) (code int, err error) {
	text, err := json.Marshal(value)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...) //nolint:gosec // this program itself, with its own arguments
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), variable+"="+string(text))
	attributes.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attributes
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}
