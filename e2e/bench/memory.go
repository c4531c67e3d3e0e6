package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A weight is what culvert promises of itself besides CPU time. run returns
// each peer's figure.
type weight struct {
	name  string
	unit  string
	bound float64 // the first peer's is to be at most that; with least, at least
	aim   float64 // and better that
	least bool
	peers []string
	run   measure
}

// unbounded is the bound of a weight that has neither bound nor aim.
var unbounded = math.Inf(1)

// A measure returns a peer's figure.
type measure func(ctx context.Context, a *arena, peer string) (float64, error)

var (
	proxies = []string{"culvert", "grpcwebproxy"}
	alone   = []string{"culvert"}
)

const (
	idleStreams = 10_000
	flood       = 256 << 20 // bytes that are sent to who doesn't read them
	mib         = 1 << 20
)

var weights = []weight{
	{"memory of an idle WebSocket stream, 10,000 of them, pings on", "KiB", 45, 25, false, proxies, idleMemory},
	{"memory of an idle WebSocket stream over TLS, 10,000 of them, pings on", "KiB", 60, 45, false, []string{culvertTLS, "culvert", nginxBefore}, idleMemory},
	{"goroutines of an idle WebSocket stream", "", 4, 3, false, alone, idleGoroutines},
	{"256 MiB sent to a handler that reads nothing, 1 stream", "MiB", 2, 1, false, proxies, fresh(stuckMemory(1))},
	{"256 MiB sent to a handler that reads nothing, 16 streams", "MiB", 32, 8, false, proxies, fresh(stuckMemory(16))},
	{"16 clients that read slowly", "MiB", 24, 4, false, proxies, fresh(slowMemory)},
	{"ping rate kept beside 16 stuck WebSocket streams", "%", 70, 95, true, proxies, fresh(besideStuck)},
	{"ping rate kept beside 16 stuck streams on its own HTTP/2 connection", "%", 70, 95, true, []string{"culvert", "nginx"}, fresh(besideStuckOnOne)},
	{"start to first call", "ms", 50, 20, false, proxies, startTime},
	{"stripped binary", "MiB", 25, 20, false, alone, binarySize},
	{"resident at rest", "MiB", 25, 16, false, proxies, fresh(restMemory)},
}

// fresh has f measure a peer that is started for it.
func fresh(f func(context.Context, *peer) (float64, error)) measure {
	return func(ctx context.Context, a *arena, name string) (float64, error) {
		p, err := peerStarts[name](ctx, a)
		if err != nil {
			return 0, err
		}
		defer p.stop()
		return f(ctx, p)
	}
}

// idleMemory weighs streams.
var idleMemory = memoryEach(func(ctx context.Context, p *peer) (end func(), err error) { return p.openIdle(ctx, idleStreams, nil) })

func idleGoroutines(ctx context.Context, a *arena, _ string) (float64, error) {
	p, err := a.culvert(ctx, newCounting(), nil)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	const streams = 1000
	before, err := p.count()
	if err != nil {
		return 0, err
	}
	end, err := p.openIdle(ctx, streams, nil)
	defer end()
	if err != nil {
		return 0, err
	}
	after, err := p.count()
	return float64(after.Goroutines-before.Goroutines) / streams, err
}

// openIdle opens streams, sees each echo a message, and goes on reading, so
// that pings are answered. ended gets each one and how it ended, from many goroutines;
// it may be nil. end closes them and waits.
func (p *peer) openIdle(ctx context.Context, n int, ended func(stream, error)) (end func(), err error) {
	c := newWebSocketClient(p)
	var reading sync.WaitGroup
	var open []stream
	end = func() {
		for _, s := range open {
			s.close()
		}
		reading.Wait()
	}
	for i := range n {
		s, err := c.open(ctx, i, methodEcho, nil)
		if err != nil {
			return end, fmt.Errorf("stream %d: %w", i, err)
		}
		open = append(open, s)
		if err := s.send([]byte("hello")); err != nil {
			return end, err
		}
		if _, err := s.recv(); err != nil {
			return end, err
		}
		reading.Go(func() {
			_, err := s.recv() // it ends when the stream does
			if ended != nil {
				ended(s, err)
			}
		})
	}
	return end, nil
}

// warm makes the peer do everything once, and returns what it weighs then.
func (p *peer) warm(ctx context.Context, c client) (int64, error) {
	l := &load{client: c}
	for i := range 4 {
		if err := l.call(ctx, i, make([]byte, 64<<10)); err != nil {
			return 0, err
		}
	}
	return p.resident()
}

// peak watches the peer's memory until stop, which returns the most it was.
func (p *peer) peak(ctx context.Context) (stop func() int64) {
	ctx, cancel := context.WithCancel(ctx)
	var most int64
	var watching sync.WaitGroup
	watching.Go(func() {
		for pause(ctx, 20*time.Millisecond) == nil {
			if n, err := p.resident(); err == nil {
				most = max(most, n)
			}
		}
	})
	return func() int64 {
		cancel()
		watching.Wait()
		return most
	}
}

// stuckMemory sends to handlers that read nothing until all is sent, or
// nothing was taken for a while.
func stuckMemory(streams int) func(context.Context, *peer) (float64, error) {
	return func(ctx context.Context, p *peer) (float64, error) {
		c := newWebSocketClient(p)
		before, err := p.warm(ctx, c)
		if err != nil {
			return 0, err
		}
		peak := p.peak(ctx)
		end, err := stick(ctx, c, streams, flood/streams)
		after := peak()
		end()
		return float64(after-before) / mib, err
	}
}

// stick opens calls whose handlers read nothing, and sends so many bytes on
// each, or as much as is taken. end cuts them.
func stick(ctx context.Context, c client, streams, bytes int) (end func(), err error) {
	var sending sync.WaitGroup
	var sent atomic.Int64
	var open []stream
	end = func() {
		for _, s := range open {
			s.close()
		}
		sending.Wait()
	}
	message := make([]byte, 64<<10)
	for i := range streams {
		s, err := c.open(ctx, i, methodStuck, nil)
		if err != nil {
			return end, err
		}
		open = append(open, s)
		sending.Go(func() {
			for n := 0; n < bytes; n += len(message) {
				if s.send(message) != nil {
					return // it was cut
				}
				sent.Add(1)
			}
		})
	}
	for last := int64(-1); sent.Load() != last; {
		last = sent.Load()
		if err := pause(ctx, 2*time.Second); err != nil {
			return end, err
		}
	}
	return end, nil
}

// slowMemory has 16 clients take a message of 64 KiB each 50 ms.
func slowMemory(ctx context.Context, p *peer) (float64, error) {
	c := newWebSocketClient(p)
	before, err := p.warm(ctx, c)
	if err != nil {
		return 0, err
	}
	peak := p.peak(ctx)
	var reading sync.WaitGroup
	failed := make([]error, 16)
	for i := range failed {
		reading.Go(func() { failed[i] = take(ctx, c, i, 65536, 160, 50*time.Millisecond) })
	}
	reading.Wait()
	return float64(peak()-before) / mib, errors.Join(failed...)
}

// besideStuck is what is left of a ping-pong's rate beside 16 stuck streams.
func besideStuck(ctx context.Context, p *peer) (float64, error) {
	return rateKept(ctx, p, newWebSocketClient(p))
}

// besideStuckOnOne has all of them on one connection.
func besideStuckOnOne(ctx context.Context, p *peer) (float64, error) {
	c := newGRPCClient(1)(p)
	defer c.close()
	return rateKept(ctx, p, c)
}

func rateKept(ctx context.Context, p *peer, c client) (float64, error) {
	free := &load{client: c, streams: 1, size: 100}
	alone, err := free.run(ctx, p, pingPong, 3*time.Second)
	if err != nil {
		return 0, err
	}
	end, err := stick(ctx, c, 16, flood/16)
	defer end()
	if err != nil {
		return 0, err
	}
	beside := &load{client: c, streams: 1, size: 100}
	kept, err := beside.run(ctx, p, pingPong, 3*time.Second)
	return kept.rate / alone.rate * 100, err
}

// startTime is how long it takes from the start of the program to the first
// answer: the median of nine.
func startTime(ctx context.Context, a *arena, name string) (float64, error) {
	return medianTime(9, func(int) (time.Duration, error) {
		began := time.Now()
		p, err := peerStarts[name](ctx, a)
		if err != nil {
			return 0, err
		}
		defer p.stop()
		c := newWebClient(p)
		defer c.close()
		l := &load{client: c}
		for l.call(ctx, 0, []byte("hello")) != nil { // the backend may still be dialled
			if time.Since(began) > 10*time.Second {
				return 0, errors.New("no call succeeded within 10 s")
			}
		}
		return time.Since(began), nil
	})
}

func binarySize(_ context.Context, a *arena, _ string) (float64, error) {
	info, err := os.Stat(a.bins.culvert)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()) / mib, nil
}

func restMemory(ctx context.Context, p *peer) (float64, error) {
	if err := pause(ctx, time.Second); err != nil {
		return 0, err
	}
	n, err := p.resident()
	return float64(n) / mib, err
}
