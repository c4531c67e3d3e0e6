//go:build !unix

package dial

import "os"

// passed are the signals that a command gets. byTerminal are those that a terminal sends to both.
var (
	passed     = byTerminal
	byTerminal = []os.Signal{os.Interrupt}
)

// onTerminal reports whether the command gets the terminal's signals without dial: it is on the
// same console.
func onTerminal() bool { return true }
