package docs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"
)

// installKube is how the documents install culvert-kube.
const installKube = "go -C kubernetes install ./cmd/culvert-kube"

var kubeInstalled sync.Once

// needKube puts culvert-kube on the PATH of what is run, for blocks below the one that
// installs it.
func needKube(t testing.TB, text string) {
	t.Helper()
	if strings.Contains(text, "culvert-kube") {
		kubeInstalled.Do(func() { wantOK(t, installKube) })
	}
}

// clusterPrograms are those that commands for a cluster may run.
var clusterPrograms = []string{"kubectl", "helm", "docker", "culvert-kube"}

var (
	isFile    = regexp.MustCompile(`(?:^| )-f ([\w./-]+)`)
	isWritten = regexp.MustCompile(` > ([\w./-]+)`)
)

// wantClusterCommands checks the files of commands that take a cluster.
// TestGuides in kubernetes/e2e runs the commands, as far as an API server without nodes
// can.
func wantClusterCommands(t *testing.T, b block) {
	var written []string
	for _, before := range b.before {
		for _, m := range isWritten.FindAllStringSubmatch(before.text, -1) {
			written = append(written, m[1])
		}
	}
	for _, c := range commands(b.text) {
		if program, _, _ := strings.Cut(c, " "); !slices.Contains(clusterPrograms, program) {
			t.Errorf("%s: %s isn't one of %q", c, program, clusterPrograms)
		}
		for _, m := range isFile.FindAllStringSubmatch(c, -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil && m[1] != "-" && !slices.Contains(written, m[1]) {
				t.Errorf("%s: %v", c, err)
			}
		}
		for _, m := range isWritten.FindAllStringSubmatch(c, -1) {
			written = append(written, m[1])
		}
	}
}

// wantManifests checks that a block is YAML with objects of the kinds that its fence
// names. TestManifestsOfThePagesAreOfTheAPI holds them to the API's types.
func wantManifests(t *testing.T, b block) {
	d := yaml.NewDecoder(strings.NewReader(b.text))
	for _, kind := range b.options[1:] {
		var object map[string]any
		if err := d.Decode(&object); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if said, has := object["kind"]; has && said != kind {
			t.Errorf("the fence says %s, and the object %v", kind, said)
		}
	}
	if err := d.Decode(new(map[string]any)); !errors.Is(err, io.EOF) {
		t.Errorf("more objects than the fence names (%v)", err)
	}
}

// runInjector injects the example with a configuration of the injector.
func runInjector(t *testing.T, b block) {
	needKube(t, "culvert-kube")
	file := writeFile(t, "injector.yaml", b.text)
	wantOK(t, fmt.Sprintf("culvert-kube inject -f deploy/kubernetes/examples/orders.yaml --sidecar-image culvert:1.0.0 --config %s", file))
}
