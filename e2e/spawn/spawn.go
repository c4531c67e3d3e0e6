// Package spawn starts programs that end with the tests.
package spawn

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

type order struct {
	cmd  *exec.Cmd
	done chan error
}

var orders = make(chan order)

// Serve lets Start work until stop. It starts all programs on one thread, which lives as long as
// the tests, so that the kernel can be asked to end the programs with it (PR_SET_PDEATHSIG is
// about the thread): a test that panics leaves nothing running.
func Serve() (stop func()) {
	var work sync.WaitGroup
	work.Go(func() {
		runtime.LockOSThread()
		for o := range orders {
			if o.cmd.SysProcAttr == nil {
				o.cmd.SysProcAttr = new(syscall.SysProcAttr)
			}
			o.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
			o.done <- o.cmd.Start()
		}
	})
	return func() {
		close(orders)
		work.Wait()
	}
}

// Start starts a command.
func Start(cmd *exec.Cmd) error {
	o := order{cmd, make(chan error)}
	orders <- o
	return <-o.done
}
