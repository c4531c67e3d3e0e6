//go:build !unix

package dial

import "os"

// passed are the signals that a command gets. byTerminal are those that a terminal sends to both.
var (
	passed     = byTerminal
	byTerminal = []os.Signal{os.Interrupt}
)
