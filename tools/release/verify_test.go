package release

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestModuleLists compares each SBOM with the modules that the linker noted in the program.
func TestModuleLists(t *testing.T) {
	s := snapshotOf(t)
	for _, program := range []string{"culvert", "culvert-kube"} {
		for _, platform := range platforms() {
			file := s.only(t, program+"_"+platform+"_*/"+program+"*")
			info, err := buildinfo.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"std": info.GoVersion}
			for _, m := range info.Deps {
				want[m.Path] = m.Version
				if m.Replace != nil { // culvert itself, from the folder above
					want[m.Path] = "v" + s.version
				}
			}
			var bom struct {
				Format   string `json:"bomFormat"`
				Metadata struct {
					Component struct{ Name, Version string }
				}
				Components []struct{ Name, Version string }
			}
			text, err := os.ReadFile(s.only(t, program+"_"+s.version+"_"+platform+".cdx.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &bom); err != nil {
				t.Fatal(err)
			}
			if c := bom.Metadata.Component; bom.Format != "CycloneDX" || c.Name != info.Main.Path || c.Version != "v"+s.version {
				t.Errorf("%s_%s: the list in the form %q is of %+v, want CycloneDX and %s v%s", program, platform, bom.Format, c, info.Main.Path, s.version)
			}
			got := map[string]string{}
			for _, c := range bom.Components {
				got[c.Name] = c.Version
			}
			if strings.Contains(string(text), "(devel)") {
				t.Errorf("%s_%s: the list has a module without a version", program, platform)
			}
			if len(want) < 10 || !maps.Equal(got, want) {
				t.Errorf("%s_%s: the list has %v, want %v", program, platform, got, want)
			}
		}
	}
}

// TestSignature verifies the signature and the checksums, and that a change is noticed.
func TestSignature(t *testing.T) {
	s := snapshotOf(t)
	sums, signature := filepath.Join(s.dir, "checksums.txt"), filepath.Join(s.dir, "checksums.txt.asc")
	run(t, "gpgv", "--keyring", s.key, signature, sums)
	text, err := os.ReadFile(sums)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range s.files(t) {
		if listed := bytes.Contains(text, []byte("  "+name+"\n")); listed == strings.HasPrefix(name, "checksums.txt") {
			t.Errorf("checksums.txt has %s: %v", name, listed)
		}
	}
	run(t, "sh", "-c", `cd "$1" && sha256sum --strict --check checksums.txt`, "sh", s.dir)

	changed := filepath.Join(t.TempDir(), "checksums.txt")
	digit := map[bool]byte{true: '1', false: '0'}[text[0] == '0']
	if err := os.WriteFile(changed, append([]byte{digit}, text[1:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t.Context(), "LC_ALL=C", "gpgv", "--keyring", s.key, signature, changed); err == nil || !strings.Contains(out, "BAD signature") {
		t.Errorf("gpgv of a changed file: %v\n%s", err, out)
	}
	if out, err := command(t.Context(), "LC_ALL=C", "sh", "-c", `cd "$1" && sha256sum --strict --check "$2"`, "sh", s.dir, changed); err == nil || strings.Count(out, "FAILED") != 1 {
		t.Errorf("sha256sum with a changed sum: %v\n%s", err, out)
	}
}
