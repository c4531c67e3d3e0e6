package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/spawn"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// took counts a reply that has come, if it is the one that had to.
func (s *pauseSeen) took(r *e2epb.Reply) {
	switch {
	case s.err != "":
	case r.GetSequence() != uint64(s.replies) || !probe.SamePayload(r.GetSequence(), r.GetPayload()):
		s.err = fmt.Sprintf("reply %d came damaged or out of order, as number %d", s.replies, r.GetSequence())
	default:
		s.replies++
	}
}

// curlReader is curl as a process, stopped by a signal.
func curlReader(version, contentType string) func(t *testing.T, s *pauseStage, c pauseCell) pauseSeen {
	return func(t *testing.T, s *pauseStage, c pauseCell) pauseSeen {
		dir := t.TempDir()
		request, header := filepath.Join(dir, "request"), filepath.Join(dir, "header")
		if err := os.WriteFile(request, wire.Frame(wire.Request(0, 0)), 0o600); err != nil {
			return pauseSeen{err: err.Error()}
		}
		scheme := map[bool]string{false: "http://", true: "https://"}[c.reader.tls]
		cmd := exec.Command("curl", "--silent", "--show-error", "--no-buffer", version, "--cacert", s.ca.file,
			"--dump-header", header, "--data-binary", "@"+request,
			"--header", "content-type: "+contentType, "--header", "te: trailers",
			"--header", probe.IDKey+": "+c.id, "--header", probe.ScriptKey+": "+c.script().String(),
			scheme+s.address(c.reader)+wire.ServerStream)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = spawn.Start(cmd)
		}
		if err != nil {
			return pauseSeen{err: err.Error()}
		}
		var replies atomic.Int64
		stopped := make(chan int, 1) // read below
		p := &pausing{pauseCell: c, stop: func() {
			_ = cmd.Process.Signal(syscall.SIGSTOP) // one that has ended shows in what was read
			stopped <- int(replies.Load())
			s.release(t, c)
		}, goOn: func() { _ = cmd.Process.Signal(syscall.SIGCONT) }}
		overdue := time.AfterFunc(pauseLead+c.pause+pauseTail+pausePatience, func() { _ = cmd.Process.Kill() })
		seen := readCurl(out, func(n int) {
			replies.Store(int64(n))
			p.begin()
		})
		_, _ = io.Copy(io.Discard, out) // else curl may wait for a reader
		if err := cmd.Wait(); err != nil {
			seen.err += fmt.Sprintf(" curl: %v: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
		overdue.Stop()
		if p.end() {
			seen.stopped = <-stopped
		}
		if seen.code == "" {
			seen.code = trailerCode(header)
		}
		return seen
	}
}

// A pausing is the pause of a reader. It counts from the first reply, which is
// late on a busy machine.
type pausing struct {
	pauseCell
	stop, goOn  func()
	begun       sync.Once
	stops, goes *time.Timer
}

// begin is called with each reply.
func (p *pausing) begin() {
	p.begun.Do(func() {
		p.stops = time.AfterFunc(pauseLead, p.stop)
		p.goes = time.AfterFunc(pauseLead+p.pause, p.goOn)
	})
}

// end reports whether the reader has been stopped, or is being stopped now.
func (p *pausing) end() bool {
	if p.stops == nil {
		return false
	}
	p.goes.Stop()
	return !p.stops.Stop()
}

// readCurl reads the frames of a body. The status may be in its last one.
func readCurl(body io.Reader, took func(replies int)) (seen pauseSeen) {
	for {
		flags, payload, err := wire.ReadFrame(body)
		if errors.Is(err, io.EOF) {
			return seen
		}
		if err != nil {
			seen.err = fmt.Sprintf("after %d replies: %v", seen.replies, err)
			return seen
		}
		if flags&0x80 != 0 {
			if st, err := wire.ParseStatus(payload); err == nil {
				seen.code = st.Code.String()
			} else {
				seen.err = err.Error()
			}
			continue
		}
		reply := new(e2epb.Reply)
		if err := proto.Unmarshal(payload, reply); err != nil {
			seen.err = err.Error()
			return seen
		}
		seen.took(reply)
		took(seen.replies)
	}
}

// trailerCode returns the name of the grpc-status in what curl's --dump-header
// wrote, or "".
func trailerCode(file string) string {
	b, _ := os.ReadFile(file) // none: there is no status
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(name, "grpc-status") {
			continue
		}
		if n, err := strconv.Atoi(textproto.TrimString(value)); err == nil {
			return codes.Code(n).String()
		}
	}
	return ""
}

// frozenGRPC is grpc-go in a process that is frozen: its connection neither reads
// nor writes, pings are not answered, and the kernel acknowledges what fits.
func frozenGRPC(tunnel bool) func(t *testing.T, s *pauseStage, c pauseCell) pauseSeen {
	return func(t *testing.T, s *pauseStage, c pauseCell) (seen pauseSeen) {
		ice := newIce()
		defer ice.thaw()
		cc, err := frozenClient(s, c, ice, tunnel)
		if err != nil {
			return pauseSeen{err: err.Error()}
		}
		defer cc.Close()
		ctx, cancel := context.WithTimeout(t.Context(), pauseLead+c.pause+pauseTail+pausePatience)
		defer cancel()
		var replies, stopped atomic.Int64
		p := &pausing{pauseCell: c, stop: func() {
			ice.freeze()
			stopped.Store(replies.Load())
			s.release(t, c)
		}, goOn: ice.thaw}
		defer p.end()
		ctx = metadata.AppendToOutgoingContext(ctx, probe.IDKey, c.id, probe.ScriptKey, c.script().String())
		stream, err := e2epb.NewProbeClient(cc).ServerStream(ctx, new(e2epb.Request))
		for err == nil {
			var r *e2epb.Reply
			if r, err = stream.Recv(); err == nil {
				seen.took(r)
				replies.Store(int64(seen.replies))
				p.begin()
			}
		}
		seen.stopped = int(stopped.Load())
		if errors.Is(err, io.EOF) {
			seen.code = codes.OK.String()
			return seen
		}
		seen.code = status.Code(err).String()
		seen.err += err.Error()
		return seen
	}
}

func frozenClient(s *pauseStage, c pauseCell, ice *ice, tunnel bool) (*grpc.ClientConn, error) {
	tcp := func(ctx context.Context, _, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		if c.rate.replyBytes < kib {
			_ = conn.(*net.TCPConn).SetReadBuffer(4 * kib) // so that a slow stream fills it, too
		}
		return &frozenConn{conn, ice}, nil
	}
	dial := func(ctx context.Context, address string) (net.Conn, error) { return tcp(ctx, "tcp", address) }
	trust := insecure.NewCredentials()
	switch {
	case tunnel:
		scheme := map[bool]string{false: "ws://", true: "wss://"}[c.reader.tls]
		client := &http.Client{Transport: &http.Transport{DialContext: tcp, TLSClientConfig: s.ca.trusting()}}
		dial = func(ctx context.Context, address string) (net.Conn, error) {
			return dialTunnel(ctx, scheme+address, &websocket.DialOptions{HTTPClient: client})
		}
	case c.reader.tls:
		trust = credentials.NewTLS(s.ca.trusting())
	}
	return grpc.NewClient("passthrough:///"+s.address(c.reader), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(trust), grpc.WithContextDialer(dial))
}

// An ice holds up connections while it is frozen.
type ice struct {
	mu     sync.Mutex
	thawed chan struct{} // closed while it isn't frozen
}

func newIce() *ice {
	i := &ice{thawed: make(chan struct{})}
	close(i.thawed)
	return i
}

func (i *ice) freeze() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.thawed = make(chan struct{})
}

// thaw may be called again.
func (i *ice) thaw() {
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case <-i.thawed:
	default:
		close(i.thawed)
	}
}

func (i *ice) wait() {
	i.mu.Lock()
	thawed := i.thawed
	i.mu.Unlock()
	<-thawed
}

// A frozenConn is a TCP connection whose owner is held up by ice.
type frozenConn struct {
	net.Conn
	ice *ice
}

func (c *frozenConn) Read(p []byte) (int, error) {
	c.ice.wait()
	n, err := c.Conn.Read(p)
	c.ice.wait() // it may have been frozen meanwhile
	return n, err
}

func (c *frozenConn) Write(p []byte) (int, error) {
	c.ice.wait()
	return c.Conn.Write(p)
}
