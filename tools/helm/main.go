// Command helm writes the schema of the chart's values. From the chart it writes
// deploy/kubernetes/install.yaml, for those without Helm.
//
// This module pins Helm, which runs as a program here, as for those who install the
// chart.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// Paths from this folder.
const (
	chart      = "../../deploy/kubernetes/chart"
	schemaFile = chart + "/values.schema.json"
	install    = "../../deploy/kubernetes/install.yaml"
)

// Where install.yaml installs culvert. The chart has neither the release's name nor its
// namespace.
const (
	release   = "culvert"
	namespace = "culvert-system"
)

func main() {
	if err := generate(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "helm: %v\n", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context) error {
	text, err := valuesSchema() // first: Helm reads it
	if err != nil {
		return err
	}
	if err := write(schemaFile, text); err != nil {
		return err
	}
	helm, err := findHelm(ctx)
	if err != nil {
		return err
	}
	manifest, err := installManifest(ctx, helm)
	if err != nil {
		return err
	}
	return write(install, manifest)
}

func write(file string, text []byte) error {
	return os.WriteFile(file, text, 0o644) //nolint:gosec // the repository's files are for everybody
}

// findHelm builds Helm, if Go hasn't got it yet, and returns the path of the program.
func findHelm(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "go", "tool", "-n", "helm"))
	return strings.TrimSpace(string(out)), err
}

const installHeader = `# culvert's injector, which puts culvert into pods that ask for it.
#
#   kubectl apply -f install.yaml
#
# Generated from the chart by "make chart", with its default values.
# deploy/kubernetes/chart/values.yaml lists what the chart can change.
apiVersion: v1
kind: Namespace
metadata:
  name: ` + namespace + `
  labels:
    pod-security.kubernetes.io/enforce: restricted
`

// sourceLine matches the comments in which Helm names the template.
var sourceLine = regexp.MustCompile(`(?m)^# Source: .*\n`)

// installManifest returns the chart with its defaults, as one file for kubectl.
func installManifest(ctx context.Context, helm string) ([]byte, error) {
	out, err := template(ctx, helm)
	if err != nil {
		return nil, err
	}
	return append([]byte(installHeader), sourceLine.ReplaceAll(out, nil)...), nil
}

// template renders the chart.
func template(ctx context.Context, helm string, args ...string) ([]byte, error) {
	args = append([]string{"template", release, chart, "--namespace", namespace}, args...)
	return output(exec.CommandContext(ctx, helm, args...))
}

// output returns what a program writes. The error of a program that fails has its
// standard error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", cmd.Path, cmd.Args[1], err, stderr.String())
	}
	return out, nil
}
