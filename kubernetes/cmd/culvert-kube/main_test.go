package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/culvert-grpc/culvert/internal/parts/script"
)

// TestMain also makes this binary the program that the scripts run.
func TestMain(m *testing.M) {
	testscript.Main(script.LeakChecked{M: m}, map[string]func(){"culvert-kube": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireUniqueNames: true, Setup: script.SetUp, Cmds: scriptCommands})
}
