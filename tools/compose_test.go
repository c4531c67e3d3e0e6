package tools

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A composeFile is the part of deploy/compose.yaml that the program must agree with.
type composeFile struct {
	Services map[string]struct {
		Image       string
		Build       string
		Command     []string
		Environment map[string]string
		Ports       []string
		DependsOn   []string `yaml:"depends_on"`
		Healthcheck struct {
			Test    []string
			Disable bool
		}
	}
}

// TestComposeFileAgreesWithTheProgram holds the commands, variables and names
// in deploy/compose.yaml to the program that they are for.
func TestComposeFileAgreesWithTheProgram(t *testing.T) {
	const name = "../deploy/compose.yaml"
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	program := buildProgram(t)

	ours := 0
	for service, s := range file.Services {
		for _, other := range s.DependsOn {
			if _, exists := file.Services[other]; !exists {
				t.Errorf("%s depends on %s, which isn't there", service, other)
			}
		}
		if !strings.HasPrefix(s.Image, "culvert:") {
			continue
		}
		ours++
		if got, want := filepath.Join("../deploy", s.Build), ".."; got != want {
			t.Errorf("%s is built in %s, want %s, where the Dockerfile is", service, got, want)
		}

		// An unknown flag is an error before the help is shown.
		help := exec.CommandContext(t.Context(), program, append(slices.Clone(s.Command), "--help")...)
		if out, err := help.CombinedOutput(); err != nil {
			t.Errorf("%s: culvert %s: %v\n%s", service, strings.Join(s.Command, " "), err, out)
		}

		// The image has a check for serve, which other commands must turn off.
		serves := len(s.Command) > 0 && s.Command[0] == "serve"
		if s.Healthcheck.Disable == serves {
			t.Errorf("%s: culvert %s has the health check disabled: %v", service, strings.Join(s.Command, " "), s.Healthcheck.Disable)
		}
		if serves {
			check := s.Healthcheck.Test
			if len(check) < 2 || check[0] != "CMD" || check[1] != "/culvert" { // the image has no shell
				t.Fatalf("%s: the health check is %q, want CMD, /culvert and its arguments", service, check)
			}
			help := exec.CommandContext(t.Context(), program, append(slices.Clone(check[2:]), "--help")...)
			if out, err := help.CombinedOutput(); err != nil || !strings.Contains(string(out), "culvert healthcheck") {
				t.Errorf("%s: the health check %q: %v\n%s", service, check, err, out)
			}
		}

		validate := exec.CommandContext(t.Context(), program, "validate")
		validate.Dir = t.TempDir() // no proxy.yaml of its own
		for key, value := range s.Environment {
			validate.Env = append(validate.Env, key+"="+value)
		}
		if out, err := validate.CombinedOutput(); s.Environment != nil && err != nil {
			t.Errorf("%s: culvert validate with %v: %v\n%s", service, validate.Env, err, out)
		}
	}
	if ours < 2 {
		t.Errorf("%d services run culvert, want the demo's backend and culvert in front of it", ours)
	}

	compose := exec.CommandContext(t.Context(), "docker", "compose", "version")
	if compose.Run() == nil { // the schema, where there is somebody who knows it
		config := exec.CommandContext(t.Context(), "docker", "compose", "-f", name, "config", "--quiet")
		if out, err := config.CombinedOutput(); err != nil {
			t.Errorf("docker compose config: %v\n%s", err, out)
		}
	}
}
