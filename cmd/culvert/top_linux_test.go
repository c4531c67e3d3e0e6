package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// openTerminal returns the two ends of a terminal of 100 columns: what a person has, and what a
// program has.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() }) // the test is over
	control, err := person.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	if cerr := control.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err != nil {
			return
		}
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 100})
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() }) // as above
	return person, program
}

// serveAdmin serves an admin address with one open call, and returns it.
func serveAdmin(t *testing.T) string {
	t.Helper()
	now := time.Now()
	d := &admin.Drain{NotReady: func() {}, Refuse: func() {}, Refuses: func() bool { return false }, Calls: func() int { return 1 }, Gone: func() bool { return false }}
	c := &admin.Control{
		Log: slog.New(slog.DiscardHandler), Level: new(slog.LevelVar), Version: "v1", Started: now, Problems: func() []string { return nil }, Drain: d,
		Configuration: func() admin.Configuration { return admin.Configuration{Version: "1", Since: now} },
		Data: admin.Data{
			Connections: func() admin.Connections { return admin.Connections{At: now} },
			Backends:    func() admin.Backends { return admin.Backends{At: now} },
			Routes:      func() admin.Routes { return admin.Routes{At: now} },
			Calls: func(q admin.CallQuery) admin.Calls {
				return admin.Calls{At: now, Open: 1, Matching: 1, Calls: []admin.Call{{ID: "one", Method: admin.Text("/evil\x1b[2J/By" + q.Order), Peer: "p", Began: now}}}
			},
		},
	}
	ln := parts.Listen(t, "127.0.0.1:0")
	server := c.Server()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return ln.Addr().String()
}

// TestTopOnATerminal draws, heeds keys, and leaves the terminal as it was.
func TestTopOnATerminal(t *testing.T) {
	address := serveAdmin(t)
	for name, end := range map[string]string{"q": "q", "Ctrl-C": "\x03"} {
		t.Run(name, func(t *testing.T) {
			person, program := openTerminal(t)
			before, err := unix.IoctlGetTermios(int(person.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(parts.Within(t, parts.Patience), os.Args[0], "top", "--admin", address, "--order", "age")
			cmd.Args[0] = "culvert" // this program is culvert under that name
			cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			screen := bufio.NewReader(person)
			until := func(text string) string {
				var read strings.Builder
				for !strings.Contains(read.String(), text) {
					b, err := screen.ReadByte()
					if err != nil {
						t.Fatalf("waiting for %q: %v after %q", text, err, read.String())
					}
					read.WriteByte(b)
				}
				return read.String()
			}
			if drawn := until("o: next order"); !strings.Contains(drawn, "CALLS by age: 1 open call") || !strings.Contains(drawn, "/evil?[2J/Byage") || strings.Contains(drawn, "evil\x1b") {
				t.Errorf("drew %q", drawn)
			}
			if _, err := io.WriteString(person, "o"); err != nil {
				t.Fatal(err)
			}
			until("/evil?[2J/Bymessages")
			if _, err := io.WriteString(person, end); err != nil {
				t.Fatal(err)
			}
			until("\x1b[?1049l")
			if err := cmd.Wait(); err != nil {
				t.Errorf("top ended with %v", err)
			}
			after, err := unix.IoctlGetTermios(int(person.Fd()), unix.TCGETS)
			if err != nil || after.Lflag != before.Lflag || after.Iflag != before.Iflag || after.Oflag != before.Oflag {
				t.Errorf("the terminal has %+v, %v; want %+v as before", after, err, before)
			}
		})
	}
}

// TestCallsOfOtherPrograms: what answers /calls may be no culvert.
func TestCallsOfOtherPrograms(t *testing.T) {
	for answer, want := range map[string]string{
		"hello":        "and not as culvert does",
		`{"calls":[]}`: "and not as culvert does",
		`{"at":"2026-11-22T12:00:00Z","open":"many"}`: "and not as culvert does",
		`{"at":"2026-11-22T12:00:00Z","open":3}`:      "",
	} {
		ln := parts.Listen(t, "127.0.0.1:0")
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, answer) // calls shows what it read
		}), ReadHeaderTimeout: parts.Patience}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(ln) // ends with Close
		}()
		var calls admin.Calls
		err := newAdminClient(ln.Addr().String()).get(parts.Within(t, parts.Patience), "/calls", &calls)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", answer, err, want)
		}
		_ = server.Close()
		<-served
	}
}
