//go:build unix

package dial

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// passed are the signals that a command gets. byTerminal are those that a terminal sends to both.
var (
	passed     = append([]os.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2}, byTerminal...)
	byTerminal = []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGWINCH}
)

// onTerminal reports whether the command gets the terminal's signals without dial: both are in the
// foreground of the terminal, wherever their input comes from.
func onTerminal() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
