package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain also makes this binary the program that the scripts run.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"culvert-kube": main})
}

// leakChecked fails when a test leaves a goroutine.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireUniqueNames: true, Setup: setUp, Cmds: scriptCommands})
}
