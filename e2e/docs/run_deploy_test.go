package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wantInstalled checks that the repository has each file that "install" copies. "make
// build" makes those in bin/.
func wantInstalled(t *testing.T, b block) {
	n := 0
	for _, c := range commands(b.text) {
		words := strings.Fields(c)
		if words[0] != "install" {
			continue
		}
		n++
		source := words[len(words)-2]
		if _, err := os.Stat(filepath.Join(root, source)); err != nil && source != "bin/culvert" {
			t.Errorf("%s: %v", c, err)
		}
	}
	if n == 0 {
		t.Error("nothing is installed: what is looked for has changed")
	}
}

// wantImageRun gives culvert the variables and arguments of a "docker run".
func wantImageRun(t *testing.T, b block) {
	n := 0
	for _, c := range commands(b.text) {
		run, is := strings.CutPrefix(c, "docker run ")
		if !is {
			continue
		}
		n++
		options, args, found := strings.Cut(run+" ", " culvert ")
		if !found {
			t.Errorf("%s: no image of the name culvert", c)
			continue
		}
		args, _ = strings.CutPrefix(args, "serve ") // validate takes the flags of serve
		argv := []string{"env"}
		for option := range strings.SplitSeq(options, "-e ") {
			if name, _, _ := strings.Cut(option, " "); strings.HasPrefix(name, "CULVERT_") {
				argv = append(argv, name)
			}
		}
		argv = append(append(argv, culvertProgram, "validate"), strings.Fields(args)...)
		if text, err := output(t, t.TempDir(), argv...); err != nil {
			t.Errorf("%s: %q: %v\n%s", c, argv, err, text)
		}
	}
	if n == 0 {
		t.Error("no container is run: what is looked for has changed")
	}
}
