//go:build unix

package run

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// asExample makes this program an example that goes on until its context ends.
const asExample = "RUN_TEST_EXAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(asExample) != "" {
		Main(func(ctx context.Context, _ bool) error {
			for ctx.Err() == nil {
				Say("example", "goes on")
			}
			fmt.Fprintf(os.Stderr, "everything ends: %v\n", context.Cause(ctx))
			return nil
		})
		return
	}
	os.Exit(m.Run())
}

// An example ends all that it started when nobody reads its output any longer, as in a
// pipe to head.
func TestUnreadOutputEndsTheExample(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asExample+"=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	if err := errors.Join(readErr, stdout.Close()); err != nil {
		t.Errorf("%q, %v", line, err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stderr.String(), "everything ends: write /dev/stdout: broken pipe") {
		t.Errorf("it ends with %v, after\n%s", err, &stderr)
	}
}

// An agent or a server whose connection breaks isn't the end of the example.
func TestBrokenConnectionGoesOn(t *testing.T) {
	after := make(chan os.Signal, 1)
	signal.Notify(after, syscall.SIGCONT)
	defer signal.Stop(after)
	err := run(func(ctx context.Context, _ bool) error {
		if err := writeToGonePeer(ctx); !errors.Is(err, syscall.EPIPE) {
			return fmt.Errorf("writing ends with %w, want EPIPE", err)
		}
		// Go passes signals on one after the other, those with a lower number first.
		if err := syscall.Kill(os.Getpid(), syscall.SIGCONT); err != nil {
			return err
		}
		<-after
		if !signal.Ignored(syscall.SIGPIPE) {
			return errors.New("SIGPIPE isn't ignored")
		}
		return context.Cause(ctx)
	}, false)
	if err != nil {
		t.Error(err)
	}
}

// writeToGonePeer writes to a connection that its peer has closed, until that fails.
func writeToGonePeer(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // nothing is lost
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // its peer is gone
	peer, err := listener.Accept()
	if err != nil {
		return err
	}
	if err := peer.Close(); err != nil {
		return err
	}
	for err == nil || errors.Is(err, syscall.ECONNRESET) { // a reset is told once, before EPIPE
		_, err = conn.Write([]byte("hello"))
	}
	return err
}
