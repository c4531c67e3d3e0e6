package serve

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

func TestWatchdogInterval(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"30000000", "", 15 * time.Second},
		{"30000000", fmt.Sprint(os.Getpid()), 15 * time.Second},
		{"30000000", "1", 0}, // another process of the service is asked
		{"0", "", 0},
		{"-1", "", 0},
		{"30s", "", 0},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got := watchdogInterval(); got != c.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}

// Where the health listener is open and nobody accepts, systemd isn't told that
// culvert works.
func TestWatchdogNoticesAProcessThatIsStuck(t *testing.T) {
	stuck, err := sockets.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stuck.Close() }() // the test is over
	systemd, err := net.ListenPacket("unixgram", t.TempDir()+"/notify")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = systemd.Close() }() // the test is over
	t.Setenv("NOTIFY_SOCKET", systemd.LocalAddr().String())
	b, err := bridge.New(bridge.Config{Backend: bridge.Backend{Target: "passthrough:///127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }() // nothing was served

	said := make(chan string, 10) // more than the looks of this test
	p := &program{bridge: b, ports: ports{health: stuck}}
	log := slog.New(watchedLog{slog.DiscardHandler, func(message string) { said <- message }})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		watchdog(ctx, log, 50*time.Millisecond, p.look)
		close(ended)
	}()
	for range 2 {
		if got := <-said; !strings.HasPrefix(got, "culvert ") || !strings.Contains(got, "itself") {
			t.Errorf("the log says %q", got)
		}
	}
	cancel()
	<-ended
	if err := systemd.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 100)
	if n, _, err := systemd.ReadFrom(message); err == nil {
		t.Errorf("systemd was told %q", message[:n])
	}
}
