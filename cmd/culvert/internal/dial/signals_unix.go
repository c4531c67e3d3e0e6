//go:build unix

package dial

import (
	"os"
	"syscall"
)

// passed are the signals that a command gets. byTerminal are those that a terminal sends to both.
var (
	passed     = append([]os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}, byTerminal...)
	byTerminal = []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGWINCH}
)
