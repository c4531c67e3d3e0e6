package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain also makes this binary the program that the scripts run.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"culvert-kube": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireUniqueNames: true, Setup: setUp, Cmds: scriptCommands})
}
