package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/e2e/spawn"
)

// The programs that the tests start.
var (
	culvertProgram  string
	backendProgram  string
	transferProgram string
	oracleProgram   string
	attackerProgram string
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Parallel tests wait for time-outs of half a minute: their number is not
	// a matter of cores. One that keeps the cores busy isn't parallel: the others
	// measure time.
	if !isSet("test.parallel") {
		_ = flag.Set("test.parallel", "32") // a valid number
	}
	os.Exit(run(m))
}

func isSet(name string) bool {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "culvert-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // left behind in a temporary directory
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stop := spawn.Serve()
	code := m.Run()
	stop()
	if err := errors.Join(removeNetworks(), goleak.Find()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// build makes the programs, without the race detector: it would change what they
// weigh and how fast they are.
func build(dir string) error {
	culvertProgram = os.Getenv("CULVERT_BIN")
	if culvertProgram == "" {
		culvertProgram = filepath.Join(dir, "culvert")
		if err := goBuild("..", culvertProgram, "./cmd/culvert"); err != nil {
			return err
		}
	} else if _, err := os.Stat(culvertProgram); err != nil {
		return fmt.Errorf("CULVERT_BIN: %w", err)
	}
	backendProgram = filepath.Join(dir, "backend")
	if err := goBuild(".", backendProgram, "./backend"); err != nil {
		return err
	}
	transferProgram = filepath.Join(dir, "transfer")
	if err := goBuild(".", transferProgram, "./transfer"); err != nil {
		return err
	}
	attackerProgram = filepath.Join(dir, "attacker")
	if err := goBuild(".", attackerProgram, "./attacker"); err != nil {
		return err
	}
	oracleProgram = filepath.Join(dir, "oracle")
	return goBuild(".", oracleProgram, "./oracle")
}

func goBuild(dir, out, pkg string) error {
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}
