package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/internal/parts/script"
)

// The commands that scripts have besides testscript's own and package script's:
//
//	socket                      set SOCKET to the path of one that isn't there
//	occupy ADDRESS              see that an address is taken
//	reserve                     set RESERVED to an address that refuses
//	                            connections until a program listens there
//	mute                        set MUTE to an address that accepts connections
//	                            and never answers
//	systemd                     set NOTIFY_SOCKET to a socket of the script's
//	notified PATTERN            wait for a message there, all of which matches
//	descriptors                 write testing.binpb and health.binpb, the
//	                            descriptors of the backend's two services

func setUp(env *testscript.Env) error {
	env.Values[socketKey{}] = new(net.PacketConn)
	var clean []string // of the variables of whoever runs the tests
	for _, v := range env.Vars {
		if !strings.HasPrefix(v, "CULVERT_") && !strings.HasPrefix(v, "NO_COLOR=") {
			clean = append(clean, v)
		}
	}
	// Scripts run beside one another, so only those about it use the admin address.
	env.Vars = append(clean, "TERM=xterm", "CULVERT_ADMIN_LISTEN=off")
	return script.SetUp(env)
}

// occupy waits a while for an address that another program has, such as another script's
// culvert. Then it leaves it to that program, which so seems to stay.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 1, "occupy address")
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", args[0])
	for until := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		ln, err = new(net.ListenConfig).Listen(context.Background(), "tcp", args[0])
	}
	if err != nil {
		ts.Logf("somebody else has %s: %v", args[0], err)
		return
	}
	ts.Setenv("OCCUPIED", ln.Addr().String())
	ts.Defer(func() { _ = ln.Close() }) // the test is over
}

// mute listens, so that the kernel accepts connections, and reads none of them.
func mute(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 0, "mute")
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("MUTE", ln.Addr().String())
	ts.Defer(func() { _ = ln.Close() }) // the test is over
}

// socket names one in a directory of its own: the script's may be too long.
func socketPath(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 0, "socket")
	dir, err := os.MkdirTemp("", "socket")
	ts.Check(err)
	ts.Defer(func() { _ = os.RemoveAll(dir) }) // the test is over
	ts.Setenv("SOCKET", filepath.Join(dir, "s"))
}

// socketKey is where a script keeps its notification socket.
type socketKey struct{}

func systemd(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 0, "systemd")
	// A directory of its own: the script's may be too long for a socket.
	dir, err := os.MkdirTemp("", "systemd")
	ts.Check(err)
	path := filepath.Join(dir, "notify")
	conn, err := new(net.ListenConfig).ListenPacket(context.Background(), "unixgram", path)
	ts.Check(err)
	ts.Defer(func() {
		_ = conn.Close() // the test is over
		_ = os.RemoveAll(dir)
	})
	ts.Setenv("NOTIFY_SOCKET", path)
	*socketOf(ts) = conn
}

func socketOf(ts *testscript.TestScript) *net.PacketConn {
	return ts.Value(socketKey{}).(*net.PacketConn)
}

func notified(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 1, "notified pattern")
	conn := *socketOf(ts)
	ts.Check(conn.SetReadDeadline(time.Now().Add(cmdtest.Patience)))
	message := make([]byte, 1024)
	n, _, err := conn.ReadFrom(message)
	ts.Check(err)
	pattern, err := regexp.Compile("^(?:" + args[0] + ")$")
	ts.Check(err)
	if got := string(message[:n]); !pattern.MatchString(got) {
		ts.Fatalf("systemd was told %q, want %s", got, args[0])
	}
}
