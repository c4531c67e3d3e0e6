package tools

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// TestProfileIsOfThisProgram: the compiler optimises by name. It doesn't tell that a function in
// the profile has moved to another package, and is compiled like any other now.
func TestProfileIsOfThisProgram(t *testing.T) {
	const module = "github.com/culvert-grpc/culvert/"
	there := map[string]bool{}
	eachFile(t, func(folder string, file *ast.File) {
		for _, decl := range file.Decls {
			if f, is := decl.(*ast.FuncDecl); is {
				there[folder+"."+receiver(f)+f.Name.Name] = true
			}
		}
	})
	file, err := os.Open("../cmd/culvert/default.pgo")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p, err := profile.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	var gone []string
	all := map[string]bool{}
	parts := regexp.MustCompile(`(\.func\d+|\.gowrap\d+|-range\d+|\.\d+)+$|\[.*\]|[(*)]`)
	for _, f := range p.Function {
		name, ours := strings.CutPrefix(f.Name, module)
		if !ours {
			continue
		}
		name = parts.ReplaceAllString(name, "")
		if !all[name] && !there[name] {
			gone = append(gone, name)
		}
		all[name] = true
	}
	// One rename isn't worth a new profile.
	if len(all) < 50 || len(gone) > len(all)/20 {
		t.Errorf("of %d functions in the profile %d aren't in the source: run make profile\n%s", len(all), len(gone), strings.Join(gone, "\n"))
	}
}
