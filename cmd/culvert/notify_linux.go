package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reloadingState is what systemd is told when a reload begins: with the time,
// it knows that the READY=1 behind it is that of this reload.
func reloadingState() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
