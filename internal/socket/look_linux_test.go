package socket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// Helpers that several packages share, by short names.
var (
	poll    = parts.Poll
	tcpPair = parts.TCPPair
)

// wrapper is a connection that says what it stands for.
type wrapper struct{ net.Conn }

func (w wrapper) NetConn() net.Conn { return w.Conn }

// TestPeerThatHungUpIsSeenWithoutReading, through TLS and a wrapper, with bytes that nobody read before the end.
func TestPeerThatHungUpIsSeenWithoutReading(t *testing.T) {
	for name, hangUp := range map[string]func(c *net.TCPConn){
		"FIN":        func(c *net.TCPConn) { _ = c.Close() },
		"half a FIN": func(c *net.TCPConn) { _ = c.CloseWrite() },
		"RST": func(c *net.TCPConn) {
			_ = c.SetLinger(0)
			_ = c.Close()
		},
	} {
		server, client := tcpPair(t)
		if _, err := client.Write([]byte("unread")); err != nil {
			t.Fatal(err)
		}
		for through, conn := range map[string]net.Conn{"bare": server, "TLS": tls.Server(server, &tls.Config{}), "a wrapper": wrapper{server}} {
			if HungUp(conn) {
				t.Errorf("%s: seen through %s before it", name, through)
			}
		}
		hangUp(client)
		_, _ = io.Copy(io.Discard, server) // returns once the end is here
		for through, conn := range map[string]net.Conn{"bare": server, "TLS": tls.Server(server, &tls.Config{}), "a wrapper": wrapper{server}} {
			if !HungUp(conn) {
				t.Errorf("%s: not seen through %s", name, through)
			}
		}
		_ = server.Close()
		if HungUp(server) {
			t.Errorf("%s: a connection that is closed here is the peer's doing", name)
		}
	}
	one, other := net.Pipe()
	defer one.Close()
	_ = other.Close()
	if HungUp(one) {
		t.Error("a connection without a socket was looked at")
	}
}

// TestPeerThatAnswersIsNotSilent, though it reads nothing.
func TestPeerThatAnswersIsNotSilent(t *testing.T) {
	server, _ := tcpPair(t)
	for full, tries := false, 0; !full; { // until the kernel takes no more
		_ = server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // it is open
		_, err := server.Write(make([]byte, 64<<10))
		if err != nil && !os.IsTimeout(err) {
			t.Fatal(err)
		}
		full = err != nil && !Writable(server)
		if err != nil && !full { // the time may have passed without a try
			if tries++; tries == 100 {
				t.Fatal("a connection that takes nothing passes for writable")
			}
		}
	}
	s := Look(server)
	if s.unanswered() || HungUp(server) {
		t.Errorf("a peer that reads nothing passes for one that is gone: %+v", s)
	}
	if !s.Known || !s.Outstanding || s.Acked == 0 || s.Heard == 0 {
		t.Errorf("the kernel tells %+v of bytes that wait", s)
	}
}

// TestHeardCountsWhatComes, and nothing else.
func TestHeardCountsWhatComes(t *testing.T) {
	server, client := tcpPair(t)
	silent := Look(server)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	after := Look(server)
	if after.Heard != silent.Heard+1 {
		t.Errorf("%d segments were counted after one byte, want %d", after.Heard, silent.Heard+1)
	}
	if again := Look(server); again.Heard != after.Heard {
		t.Errorf("%d segments were counted, and then %d although none came", after.Heard, again.Heard)
	}
}

// TestResetConnectionIsNotWritable: what is left to others to write would pass
// for told.
func TestResetConnectionIsNotWritable(t *testing.T) {
	server, client := tcpPair(t)
	if !Writable(server) {
		t.Error("a new connection is not writable")
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	_, _ = io.Copy(io.Discard, server) // returns once the reset is here
	if Writable(server) {
		t.Error("a connection that was reset passes for writable")
	}
}

// TestSentCountsWhatIsUnderWay: a peer's kernel acknowledges what it has room
// for, whether or not the peer reads.
func TestSentCountsWhatIsUnderWay(t *testing.T) {
	server, _ := tcpPair(t)
	before, _ := Sent(wrapper{server})
	if _, err := server.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	var acked, pending uint64
	poll(t, func() string {
		acked, pending = Sent(wrapper{server})
		if acked+pending < before+5 {
			t.Fatalf("%d acknowledged and %d on their way, want %d in all", acked, pending, before+5)
		}
		if acked != before+5 {
			return fmt.Sprintf("%d acknowledged, want %d", acked, before+5)
		}
		return ""
	})
	if pending != 0 {
		t.Errorf("%d are on their way, want none", pending)
	}
	one, _ := net.Pipe()
	if acked, pending := Sent(one); acked != 0 || pending != 0 {
		t.Error("a connection without a socket was looked at")
	}
}

func TestReadableBeforeItIsRead(t *testing.T) {
	server, client := tcpPair(t)
	if Readable(wrapper{server}) {
		t.Error("nothing was sent and something can be read")
	}
	if _, err := client.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	poll(t, func() string {
		if !Readable(wrapper{server}) {
			return "what was sent can't be read"
		}
		return ""
	})
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if Readable(wrapper{server}) {
		t.Error("what was read can be read again")
	}
	one, _ := net.Pipe()
	if Readable(one) {
		t.Error("a connection without a socket was looked at")
	}
}

// TestCutEndsReadsUnderTLS, without a word of TLS.
func TestCutEndsReadsUnderTLS(t *testing.T) {
	server, client := tcpPair(t)
	Cut(wrapper{tls.Server(server, &tls.Config{})})
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v, want %v", err, net.ErrClosed)
	}
	if rest, err := io.ReadAll(client); len(rest) != 0 || err != nil {
		t.Errorf("the peer read %q, %v, want the end", rest, err)
	}
}
