package pool

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestConnectionToABackendIsWatched by TCP itself.
func TestConnectionToABackendIsWatched(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	_, dial := dialOf(&report.Backend{Target: ln.Addr().String()})
	conn, err := dial(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	if got := parts.UserTimeout(t, tcp); got != userTimeout {
		t.Errorf("the user time-out is %v, want %v", got, userTimeout)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[int]int{
		unix.TCP_KEEPIDLE: int(keepAliveIdle.Seconds()), unix.TCP_KEEPINTVL: int(keepAliveEvery.Seconds()), unix.TCP_KEEPCNT: keepAliveCount,
	} {
		var got int
		if cerr := raw.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
		if got != want {
			t.Errorf("TCP's option %d is %d, want %d", option, got, want)
		}
	}
}

// TestALostProbeEndsNothing: beside TCP_USER_TIMEOUT the kernel doesn't count
// keep-alive's probes, and ends a connection that was idle for that long if the
// last one is unanswered. So several have to come before. tcp(7), tcp_timer.c.
func TestALostProbeEndsNothing(t *testing.T) {
	for _, side := range []struct {
		name               string
		idle, every, until time.Duration
	}{
		{"of a backend", keepAliveIdle, keepAliveEvery, userTimeout},
	} {
		if probes := 1 + int((side.until-side.idle-1)/side.every); probes < 2 {
			t.Errorf("a connection %s is probed %d times before it ends, want 2 or more", side.name, probes)
		}
	}
}
