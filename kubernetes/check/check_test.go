package check_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts/authority"
	"github.com/culvert-grpc/culvert/kubernetes/check"
	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

var update = flag.Bool("update", false, "write the golden files")

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// bundle returns a caBundle whose certificate ends at the time.
func bundle(t *testing.T, end time.Time) string {
	t.Helper()
	pair := new(authority.Authority).Sign(t, &x509.Certificate{NotAfter: end})
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
}

// read returns a snapshot of a file. The file's first lines may be settings: what
// manifests can't say.
func read(t *testing.T, text string) (*check.Snapshot, check.Options) {
	t.Helper()
	text = strings.NewReplacer("VALID", bundle(t, now.Add(time.Hour)), "EXPIRED", bundle(t, now.Add(-time.Hour))).Replace(text)
	s := &check.Snapshot{Now: now}
	var o check.Options
	var err error
	for line := range strings.Lines(text) {
		setting, found := strings.CutPrefix(strings.TrimSpace(line), "# set ")
		if !found {
			continue
		}
		key, value, _ := strings.Cut(setting, " ")
		switch key {
		case "partial":
			s.Partial = true
		case "version":
			s.Version = value
		case "image":
			o.Image = value
		case "config":
			if o.Config, err = inject.ReadConfig([]byte(value)); err != nil {
				t.Fatal(err)
			}
		case "unread":
			s.NotRead(value, os.ErrPermission)
		default:
			t.Fatalf("unknown setting %q", key)
		}
	}
	if err := s.AddManifests([]byte(text), "default"); err != nil {
		t.Fatal(err)
	}
	return s, o
}

func render(r *check.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s: %s: %s\n", f.Severity, f.Object, f.Problem)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "  remedy: %s\n", f.Remedy)
		}
		for line := range strings.Lines(f.Manifest) {
			fmt.Fprintf(&b, "  | %s", line)
		}
	}
	fmt.Fprintln(&b, r.Summary)
	return b.String()
}

// TestFindings compares the findings for each cluster in testdata with those that
// were right.
func TestFindings(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, o := read(t, string(text))
			got := render(check.Run(s, o))
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestManifestsOfRemedies applies the manifests that check prints, and checks again:
// what they are for must be gone, and nothing else may be wrong.
func TestManifestsOfRemedies(t *testing.T) {
	for _, file := range []string{"testdata/reach.yaml", "testdata/policies.yaml", "testdata/headless.yaml", "testdata/order.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, o := read(t, string(text))
		before := check.Run(s, o)
		problems := map[string]bool{}
		all := string(text)
		for _, f := range before.Findings {
			if f.Manifest != "" {
				problems[f.Object+f.Problem] = true
				all += "\n---\n" + f.Manifest
			}
		}
		if len(problems) == 0 {
			t.Fatalf("%s: no manifest", file)
		}
		s, o = read(t, all)
		after := check.Run(s, o)
		for _, f := range after.Findings {
			if problems[f.Object+f.Problem] || f.Manifest != "" {
				t.Errorf("%s: still there: %s: %s", file, f.Object, f.Problem)
			}
		}
		if b, a := before.Summary, after.Summary; a.Errors > b.Errors || a.Warnings > b.Warnings {
			t.Errorf("%s: worse: %s, before %s", file, a, b)
		}
	}
}
