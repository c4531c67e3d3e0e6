package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/examples/internal/run"
)

const (
	loaders   = 16       // that send requests at the same time
	slowBytes = 64 << 20 // more than all buffers on the way have room for
)

// trailers sends a body with a trailer, and gets a response with trailers.
func (c *check) trailers(ctx context.Context) error {
	if err := c.sum(ctx, "oslo", "/sum", strings.NewReader("hello"), len("hello")); err != nil {
		return err
	}
	run.Say("check", "trailers arrive: that of a request at oslo's web server, those of the response here")
	return nil
}

// slowBodies has two bodies wait in oslo's tunnel, one in each direction, while other
// requests pass.
func (c *check) slowBodies(ctx context.Context) error {
	web := c.webs["oslo"]
	down, err := c.do(ctx, "oslo", http.MethodGet, fmt.Sprintf("/bytes/%d", slowBytes), nil)
	if err != nil {
		return err
	}
	defer func() { _ = down.Body.Close() }() // read to its end
	upload := &counted{Reader: zeros(slowBytes)}
	var uploading sync.WaitGroup
	var uploadErr error
	uploading.Go(func() { uploadErr = c.sum(ctx, "oslo", "/sum?wait", upload, slowBytes) })

	err = c.passBeside(ctx, upload, web)
	close(web.read) // now the upload can end
	n, downErr := io.Copy(io.Discard, down.Body)
	uploading.Wait()
	if err = errors.Join(err, downErr, uploadErr); err != nil {
		return err
	}
	run.Say("check", "then both arrive whole")
	if n != slowBytes {
		return fmt.Errorf("the download has %d bytes, want %d", n, slowBytes)
	}
	return nil
}

// passBeside sends requests beside the two bodies, which must be waiting afterwards.
func (c *check) passBeside(ctx context.Context, upload *counted, web *web) error {
	const requests = 300
	var slowest time.Duration
	for i := range requests {
		began := time.Now()
		if err := c.sum(ctx, "oslo", "/sum", zeros(i*100), i*100); err != nil {
			return err
		}
		slowest = max(slowest, time.Since(began))
	}
	up, down := upload.n.Load(), web.sent.Load()
	if up == 0 || up >= slowBytes || down == 0 || down >= slowBytes {
		return fmt.Errorf("%d bytes of the upload and %d of the download were sent: they don't wait", up, down)
	}
	run.Say("check", "2 slow bodies of %d MiB wait in oslo's tunnel, one after %d MiB, one after %d MiB; beside them %d requests, 0 failed, the slowest took %v",
		slowBytes>>20, up>>20, down>>20, requests, slowest.Round(time.Millisecond))
	return nil
}

// counted counts what was read.
type counted struct {
	io.Reader
	n atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// The moves of the check, and how many of the agents without a firewall have moved then.
var moves = []struct {
	percent uint32
	moved   int
}{{20, 1}, {50, 4}, {100, 8}, {50, 4}, {0, 0}}

// moves moves agents to WebSockets and back, under load, while a download goes on that
// began before.
func (c *check) moves(ctx context.Context) error {
	download, err := c.do(ctx, "quito", http.MethodGet, fmt.Sprintf("/bytes/%d", slowBytes), nil)
	if err != nil {
		return err
	}
	defer func() { _ = download.Body.Close() }() // read to its end
	l := c.startLoad(ctx)
	for _, m := range moves {
		before := l.requests.Load()
		c.edge.Move(m.percent)
		if err := poll(ctx, func() error { return c.wantStreams(len(firewalled) + m.moved) }); err != nil {
			return errors.Join(err, l.stop())
		}
		run.Say("check", "%d %% to WebSockets: %d of %d agents are there, after %d requests", m.percent, m.moved, len(agents), l.requests.Load()-before)
	}
	if err := l.stop(); err != nil {
		return err
	}
	run.Say("check", "%d requests during %d moves, 0 failed", l.requests.Load(), len(moves))
	if n, err := io.Copy(io.Discard, download.Body); err != nil || n != slowBytes {
		return fmt.Errorf("the download has %d bytes, want %d: %w", n, slowBytes, err)
	}
	if err := c.wantWebSockets(ctx, len(firewalled)); err != nil {
		return err
	}
	run.Say("check", "a download that began before the moves is whole; each agent has one tunnel again")
	return nil
}

// A load is requests to all agents, until it is stopped.
type load struct {
	requests atomic.Int64
	cancel   context.CancelFunc
	loaders  sync.WaitGroup
	mu       sync.Mutex
	failed   []error
}

func (c *check) startLoad(ctx context.Context) *load {
	l := new(load)
	running, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	names := slices.Concat(agents, firewalled, []string{"any"})
	for i := range loaders {
		l.loaders.Go(func() {
			for n := i; running.Err() == nil; n++ {
				size := n * 1000 % (100 << 10)
				if err := c.sum(ctx, names[n%len(names)], "/sum", zeros(size), size); err != nil {
					l.fail(err)
				}
				l.requests.Add(1)
			}
		})
	}
	return l
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

// stop waits for the last requests, and returns an error if one failed.
func (l *load) stop() error {
	l.cancel()
	l.loaders.Wait()
	if len(l.failed) > 0 {
		return fmt.Errorf("%d of %d requests failed, one with: %w", len(l.failed), l.requests.Load(), l.failed[0])
	}
	return nil
}

// health has porto's web server fail its health check for a while.
func (c *check) health(ctx context.Context) error {
	web := c.webs["porto"]
	web.sick.Store(true)
	if err := poll(ctx, func() error { return c.wantHealth("porto", false) }); err != nil {
		return err
	}
	if err := c.sum(ctx, "porto", "/sum", zeros(1000), 1000); err == nil || !strings.Contains(err.Error(), "503") {
		return fmt.Errorf("a request to an unhealthy agent ends with %w, want 503", err)
	}
	const others = 20
	for range others {
		if err := c.sum(ctx, "any", "/sum", zeros(1000), 1000); err != nil {
			return err
		}
	}
	run.Say("check", "porto is unhealthy: its requests get 503, the other agents serve %d requests, 0 failed", others)
	web.sick.Store(false)
	if err := poll(ctx, func() error { return c.wantHealth("porto", true) }); err != nil {
		return err
	}
	if err := c.sum(ctx, "porto", "/sum", strings.NewReader("well"), len("well")); err != nil {
		return err
	}
	run.Say("check", "porto is healthy again, and serves")
	return nil
}

func (c *check) wantHealth(name string, healthy bool) error {
	for _, s := range c.edge.Agents() {
		if s.Name == name && s.Healthy == healthy {
			return nil
		}
	}
	return fmt.Errorf("the edge has no agent %s that is healthy: %v", name, healthy)
}
