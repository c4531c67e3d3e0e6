package pathservice

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write web/src/doctor/service.ts anew")

// TestTypeScript holds the client in pages to this package.
func TestTypeScript(t *testing.T) {
	const path = "../../web/src/doctor/service.ts"
	want := fmt.Sprintf(`// Made by the test of internal/pathservice, with -update.

/** The service by which clients test their way to culvert: docs/reference/path.md. */
export const serviceName = %q;

/** Ticks sends so many messages, one every interval (in milliseconds). */
export const ticks = %d;
export const interval = %d;

/** Echo takes so many messages of so many bytes, where the doctor is on. */
export const largeMessages = %d;
export const largeMessage = %d;
`, Name, TickMessages, TickInterval.Milliseconds(), LargeMessages, LargeMessage)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s has %q, %v; want %q: run it with -update", path, got, err, want)
	}
}
