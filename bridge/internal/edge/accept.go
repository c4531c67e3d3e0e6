package edge

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// Descriptors keep a reserve of the process's file descriptors from clients: for
// connections to the backend, files, and health checks. The kernel gives the lowest
// free number, so a connection with a number in the reserve shows that all numbers
// below are taken. Then culvert refuses it at once. Only when the kernel gives none at all,
// culvert accepts no connection for a while, or until one closes.
type descriptors struct {
	refusals *report.Refusals
	panics   *report.Panics
	log      *slog.Logger
	reserve  int           // the first number of the reserve
	freed    chan struct{} // one place: one more or fewer makes no difference

	short atomic.Bool // the shortage was logged, and its end not yet
	mu    sync.Mutex
	last  time.Time // when one was missing
}

func newDescriptors(refusals *report.Refusals, panics *report.Panics, log *slog.Logger, limit int) *descriptors {
	return &descriptors{refusals: refusals, panics: panics, log: log, reserve: limit - min(descriptorReserve/2, limit/4), freed: make(chan struct{}, 1)}
}

const (
	acceptPause = 50 * time.Millisecond
	acceptCalm  = time.Second // this long without a shortage ends it
)

var descriptorHint = "raise the limit of open files (ulimit -n), or lower " + report.Named(report.KeyConnections)

// descriptorReserve is the number of descriptors that clients' connections leave free.
const descriptorReserve = 128

// DefaultConnections returns how many connections the file-descriptor limit leaves
// room for, with a reserve for files, logs and backends.
func DefaultConnections() int {
	return max(socket.DescriptorLimit()-descriptorReserve, descriptorReserve)
}

// accept accepts the next connection for which there is a descriptor, and hands the
// others to refuse. While the kernel gives no descriptors, it waits until it does, or until
// closed, the listener's end.
func (d *descriptors) accept(ln net.Listener, closed <-chan struct{}, reserve int, refuse func(net.Conn)) (net.Conn, error) {
	for {
		c, err := d.next(ln)
		if err != nil && !lacksDescriptors(err) {
			return nil, err
		}
		if err == nil {
			number := socket.Descriptor(c)
			if number < d.reserve {
				d.recovered()
			}
			if number < reserve {
				return c, nil
			}
			d.lacking(c.RemoteAddr().String())
			refuse(c)
			continue // the next one waits for its refusal
		}
		d.lacking("")
		select {
		case <-d.freed:
		case <-time.After(acceptPause):
		case <-closed:
		}
	}
}

// next accepts a connection. A panic of the listener is its end.
func (d *descriptors) next(ln net.Listener) (c net.Conn, err error) {
	defer d.panics.Catch("a listener", func(f *report.Fault) { err = f })
	return ln.Accept()
}

// free notes that a connection has closed.
func (d *descriptors) free() {
	select {
	case d.freed <- struct{}{}:
	default:
	}
}

// lacking logs that descriptors have run out, once until recovered.
func (d *descriptors) lacking(peer string) {
	d.mu.Lock()
	d.last = time.Now()
	d.mu.Unlock()
	if !d.short.Swap(true) {
		d.log.Warn("not accepting connections: out of file descriptors", slog.Int("descriptors_before_the_reserve", d.reserve), slog.String("hint", descriptorHint))
	}
	d.refusals.Note(&report.Fault{Reason: report.ReasonLimitExceeded, Key: report.KeyConnections, Detail: "out of file descriptors", Hint: descriptorHint}, peer)
}

// recovered logs that the shortage is over: none has been missing for acceptCalm.
func (d *descriptors) recovered() {
	if !d.short.Load() {
		return
	}
	d.mu.Lock()
	calm := time.Since(d.last) >= acceptCalm
	d.mu.Unlock()
	if calm && d.short.Swap(false) {
		d.log.Info("accepting connections again: file descriptors are free")
	}
}

// Problems returns the current problems, a line each, that don't keep the server from
// serving the clients that it has.
func (e *Edge) Problems() []string {
	if e.files.short.Load() {
		return []string{"out of file descriptors: culvert accepts no connections; " + e.o.Words.Say(descriptorHint)}
	}
	return nil
}

func lacksDescriptors(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}, func(e error) bool { return errors.Is(err, e) })
}

// LeaveDescriptors wraps a listener of the program's own, such as one for health
// checks. It may use half of the file descriptors that clients' connections leave;
// beyond that it closes new connections.
func (e *Edge) LeaveDescriptors(ln net.Listener) net.Listener {
	limit := socket.DescriptorLimit()
	return &sparingListener{closable: newClosable(ln), d: e.files, reserve: (e.files.reserve + limit) / 2}
}

type sparingListener struct {
	*closable
	d       *descriptors
	reserve int
}

func (l *sparingListener) Accept() (net.Conn, error) {
	return l.d.accept(l.Listener, l.closed, l.reserve, func(c net.Conn) { _ = c.Close() }) // no refusal is sent
}

// A closable is a listener that tells when Close is called.
type closable struct {
	net.Listener
	once   sync.Once
	closed chan struct{}
}

func newClosable(ln net.Listener) *closable {
	return &closable{Listener: ln, closed: make(chan struct{})}
}

func (l *closable) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
