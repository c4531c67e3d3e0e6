package e2e

import (
	"encoding/xml"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// An h2specReport is what h2spec writes: a JUnit report.
type h2specReport struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Name    string  `xml:"classname,attr"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
			Skipped *string `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// h2specDiffers are the cases that culvert answers otherwise, with the reason.
var h2specDiffers = map[string]string{
	"http2/3.5: Sends invalid connection preface": "the port speaks HTTP/1.1, too: what is no preface is answered 400, and then closed",
}

// standardH2SpecDiffers are those that net/http answers otherwise (http2_server: standard).
var standardH2SpecDiffers = map[string]string{
	"http2/3.5: Sends invalid connection preface":                                                                   h2specDiffers["http2/3.5: Sends invalid connection preface"],
	"http2/4.2: Sends a large size HEADERS frame that exceeds the SETTINGS_MAX_FRAME_SIZE":                          "net/http announces a SETTINGS_MAX_FRAME_SIZE of 1 MiB, so the frame of 20 KiB fits",
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE":                                            "net/http closes the connection for a setting that comes twice in one frame",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field":                       "net/http answers with status 400, not with a stream error",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "net/http answers with status 400, not with a stream error",
}

// HTTP/2 as summerwind/h2spec wants it, its strict cases included.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	wantH2Spec(t, startCulvert(t, b.address, culvertOptions{}).address, 5, h2specDiffers)
}

// The same with net/http's server. The cases that fail wait for an answer, so
// they have less time.
func TestH2SpecOfStandardServer(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "http2_server: standard\n"})
	wantH2Spec(t, c.address, 2, standardH2SpecDiffers)
}

// wantH2Spec runs h2spec. It asks for a page that isn't there, which is answered at
// once. A case whose second frame comes behind that answer isn't what it means to be,
// so what fails has to fail each time.
func wantH2Spec(t *testing.T, address string, seconds int, differs map[string]string) {
	t.Helper()
	failed := runH2Spec(t, address, seconds)
	for range 4 {
		if maps.EqualFunc(failed, differs, func(string, string) bool { return true }) {
			break
		}
		again := runH2Spec(t, address, seconds)
		maps.DeleteFunc(failed, func(name, _ string) bool { return again[name] == "" })
	}
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		if differs[name] == "" {
			t.Errorf("%s: %s", name, failed[name])
		}
	}
	for name := range differs {
		if failed[name] == "" {
			t.Errorf("%s: passes, and is listed as one that doesn't", name)
		}
	}
}

// runH2Spec returns the cases that failed, with what came instead. A case waits so
// many seconds for an answer.
func runH2Spec(t *testing.T, address string, seconds int) map[string]string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.xml")
	output, err := exec.Command(tool(t, "h2spec"), "--host", host, "--port", port, "--strict", "--timeout", strconv.Itoa(seconds), "--junit-report", file).CombinedOutput()
	report, fileErr := os.ReadFile(file)
	if fileErr != nil {
		t.Fatalf("h2spec: %v\n%s", err, output)
	}
	var r h2specReport
	if err := xml.Unmarshal(report, &r); err != nil {
		t.Fatal(err)
	}
	const cases = 146 // of this version
	ran, failed := 0, map[string]string{}
	for _, suite := range r.Suites {
		for _, test := range suite.Cases {
			ran++
			for _, text := range []*string{test.Failure, test.Error, test.Skipped} {
				if text != nil {
					failed[suite.Package+": "+test.Name] = "not as wanted: " + *text
				}
			}
		}
	}
	if ran != cases {
		t.Fatalf("h2spec ran %d cases, want %d", ran, cases)
	}
	t.Logf("%d cases pass", ran-len(failed))
	return failed
}
