package check_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/culvert-grpc/culvert/kubernetes/check"
	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// FuzzManifests checks whatever can be read. The manifests of remedies must be
// readable, and the same input must have the same findings.
func FuzzManifests(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		// Neighbours belong together: a workload and its Service, its pod or its policy.
		documents := bytes.Split(text, []byte("\n---\n"))
		for i := range documents {
			f.Add(bytes.Join(documents[i:min(i+2, len(documents))], []byte("\n---\n")), i%2 == 0)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, partial bool) {
		config := inject.DefaultConfig()
		config.Image = "culvert:test"
		run := func(text []byte) (*check.Report, error) {
			s := &check.Snapshot{Now: now, Partial: partial, All: true}
			err := s.AddManifests(text, "default")
			return check.Run(s, check.Options{Config: &config}), err
		}
		report, err := run(text)
		if err != nil {
			return
		}
		for _, f := range report.Findings {
			if f.Problem == "" || f.Object == "" {
				t.Errorf("an empty text in %+v", f)
			}
			if f.Manifest == "" {
				continue
			}
			if _, err := run([]byte(f.Manifest)); err != nil {
				t.Errorf("%v in\n%s", err, f.Manifest)
			}
		}
		if again, _ := run(text); render(again) != render(report) {
			t.Errorf("first:\n%s\nthen:\n%s", render(report), render(again))
		}
	})
}
