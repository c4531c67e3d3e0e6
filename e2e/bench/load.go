package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A load is what clients do for a while.
type load struct {
	client  client
	streams int
	size    int // bytes of a message

	passed    atomic.Int64 // messages carried
	measuring atomic.Bool  // latencies are noted
	stopping  atomic.Bool
	stuck     func()         // called when it doesn't end; nil: nothing
	ready     sync.WaitGroup // each stream's first message

	mu        sync.Mutex
	latencies []time.Duration
	failure   error
}

// A shape runs one of a load's streams until the load stops, and checks that
// nothing was lost.
type shape func(ctx context.Context, l *load, n int) error

// A figure is what one run of a load gave.
type figure struct {
	perMessage time.Duration // the proxy's CPU time
	rate       float64       // messages a second
	p50, p99   time.Duration // zero where a shape has none
	mallocs    float64       // a message
	allocated  float64       // bytes a message
	collected  float64       // collections of garbage in 1,000 messages
}

// run lets the load warm up, measures it for the time, and ends it.
func (l *load) run(ctx context.Context, p *peer, do shape, measure time.Duration) (figure, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*measure+time.Minute)
	defer cancel()
	if l.stuck != nil {
		defer time.AfterFunc(2*measure+30*time.Second, l.stuck).Stop()
	}
	var streams sync.WaitGroup
	l.ready.Add(l.streams)
	for n := range l.streams {
		streams.Go(func() {
			if err := do(ctx, l, n); err != nil {
				l.fail(fmt.Errorf("stream %d: %w", n, err))
				cancel()
			}
		})
	}
	warm := make(chan struct{})
	go func() {
		defer close(warm)
		l.ready.Wait()
	}()
	var f figure
	var err error
	select {
	case <-warm:
		if pause(ctx, measure/2) == nil {
			f, err = l.measure(ctx, p, measure)
		}
	case <-ctx.Done():
	}
	l.stopping.Store(true)
	streams.Wait()
	return f, errors.Join(err, l.failure)
}

func (l *load) measure(ctx context.Context, p *peer, d time.Duration) (f figure, err error) {
	before, err := p.snapshot()
	if err != nil {
		return f, err
	}
	passed := l.passed.Load()
	l.measuring.Store(true)
	began := time.Now()
	if pause(ctx, d) != nil {
		return f, nil // why is known to the stream that failed
	}
	l.measuring.Store(false)
	took := time.Since(began)
	messages := float64(l.passed.Load() - passed)
	after, err := p.snapshot()
	if err != nil {
		return f, err
	}
	if messages == 0 {
		return f, fmt.Errorf("%s: no message passed in %v", p.name, d)
	}
	f.perMessage = time.Duration(float64(after.cpu-before.cpu) / messages)
	f.mallocs = float64(after.mallocs-before.mallocs) / messages
	f.allocated = float64(after.allocated-before.allocated) / messages
	f.collected = 1000 * float64(after.collected-before.collected) / messages
	f.rate = messages / took.Seconds()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.latencies); n > 0 {
		slices.Sort(l.latencies)
		f.p50, f.p99 = l.latencies[n/2], l.latencies[n*99/100]
	}
	return f, nil
}

// A snapshot is what a peer has used so far.
type snapshot struct {
	cpu       time.Duration
	mallocs   uint64
	allocated uint64 // bytes
	collected uint64 // how often
}

func (p *peer) snapshot() (s snapshot, err error) {
	if p.counters != "" {
		c, err := p.count()
		if err != nil {
			return s, err
		}
		s.mallocs, s.allocated, s.collected = c.Mallocs, c.TotalAlloc, c.NumGC
	}
	s.cpu, err = p.cpu()
	return s, err
}

// pause lets the time of a measurement pass.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
	}
}

// took notes how long a message and its answer took.
func (l *load) took(d time.Duration) {
	if !l.measuring.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.latencies) < 1<<20 {
		l.latencies = append(l.latencies, d)
	}
}

// begin opens a stream, which is cut when ctx ends. The caller calls first when
// a message has passed, and end at last.
func (l *load) begin(ctx context.Context, n int, method string, header map[string]string) (s stream, first, end func(), err error) {
	first = sync.OnceFunc(l.ready.Done)
	if s, err = l.client.open(ctx, n, method, header); err != nil {
		first()
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, s.close)
	return s, first, func() {
		first()
		stop()
		s.close()
	}, nil
}

// window is how many messages of a full-duplex stream are under way: without
// a bound a proxy that has no flow control is measured at swallowing, and not
// at carrying; with few, at waking up.
func window(size int) int { return max(min(64, 256<<10/size), 4) }

// duplex sends without waiting for the echoes, which another goroutine reads.
func duplex(ctx context.Context, l *load, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, first, end, err := l.begin(ctx, n, methodEcho, nil)
	if err != nil {
		return err
	}
	defer end()
	var sending sync.WaitGroup
	var sent int64
	var sendErr error
	window := make(chan struct{}, window(l.size)) // each echo makes room for a message
	sending.Go(func() {
		message := make([]byte, l.size)
		for !l.stopping.Load() {
			select {
			case window <- struct{}{}:
			case <-ctx.Done():
				return // the receiver has failed
			}
			if sendErr = s.send(message); sendErr != nil {
				return
			}
			sent++
		}
		sendErr = s.closeSend()
	})
	received, err := l.receive(s, func() { first(); <-window })
	if err != nil {
		cancel() // a sender that waits goes on
	}
	sending.Wait()
	if err == nil {
		err = sendErr
	}
	if err == nil && received != sent {
		err = fmt.Errorf("sent %d messages, got %d back and OK", sent, received)
	}
	return err
}

// receive counts messages until the end.
func (l *load) receive(s stream, each func()) (int64, error) {
	for received := int64(0); ; received++ {
		size, err := s.recv()
		if errors.Is(err, io.EOF) {
			return received, nil
		}
		if err != nil {
			return received, err
		}
		if size != l.size {
			return received, fmt.Errorf("a message of %d bytes, want %d", size, l.size)
		}
		l.passed.Add(1)
		each()
	}
}

// pingPong sends a message and waits for its echo.
func pingPong(ctx context.Context, l *load, n int) error {
	s, first, end, err := l.begin(ctx, n, methodEcho, nil)
	if err != nil {
		return err
	}
	defer end()
	message := make([]byte, l.size)
	for !l.stopping.Load() {
		began := time.Now()
		if err := s.send(message); err != nil {
			return err
		}
		if size, err := s.recv(); err != nil || size != l.size {
			return fmt.Errorf("echo of %d bytes, want %d: %w", size, l.size, err)
		}
		l.took(time.Since(began))
		l.passed.Add(1)
		first()
	}
	if err := s.closeSend(); err != nil {
		return err
	}
	return atEnd(s)
}

// atEnd wants the call's OK next.
func atEnd(s stream) error {
	if _, err := s.recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last message: %w", err)
	}
	return nil
}

// unary makes one call after the other.
func unary(ctx context.Context, l *load, n int) error {
	first := sync.OnceFunc(l.ready.Done)
	defer first()
	message := make([]byte, l.size)
	for !l.stopping.Load() {
		began := time.Now()
		if err := l.call(ctx, n, message); err != nil {
			return err
		}
		l.took(time.Since(began))
		l.passed.Add(1)
		first()
	}
	return nil
}

func (l *load) call(ctx context.Context, n int, message []byte) error {
	s, err := l.client.open(ctx, n, methodEcho, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if err := errors.Join(s.send(message), s.closeSend()); err != nil {
		return err
	}
	if _, err := s.recv(); err != nil {
		return err
	}
	return atEnd(s)
}

// serverStream reads what the backend sends without end.
func serverStream(ctx context.Context, l *load, n int) error {
	s, first, end, err := l.begin(ctx, n, methodSource, map[string]string{"x-size": strconv.Itoa(l.size)})
	if err != nil {
		return err
	}
	defer end()
	if err := errors.Join(s.send(nil), s.closeSend()); err != nil {
		return err
	}
	for !l.stopping.Load() {
		if size, err := s.recv(); err != nil || size != l.size {
			return fmt.Errorf("a message of %d bytes, want %d: %w", size, l.size, err)
		}
		l.passed.Add(1)
		first()
	}
	return nil
}

// clientStream sends without end; the backend says how many it read.
func clientStream(ctx context.Context, l *load, n int) error {
	s, first, end, err := l.begin(ctx, n, methodSink, nil)
	if err != nil {
		return err
	}
	defer end()
	message := make([]byte, l.size)
	sent := 0
	for ; !l.stopping.Load(); sent++ {
		if err := s.send(message); err != nil {
			return err
		}
		l.passed.Add(1)
		first()
	}
	if err := s.closeSend(); err != nil {
		return err
	}
	if size, err := s.recv(); err != nil || size != len(strconv.Itoa(sent)) {
		return fmt.Errorf("the backend's count of %d messages has %d digits: %w", sent, size, err)
	}
	return atEnd(s)
}
