package serve

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reloadingState returns the state for systemd at the start of a reload. It
// has the time, so that systemd can assign the next READY=1 to this reload.
func reloadingState() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
