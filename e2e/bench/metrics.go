package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// culvertMetrics is culvertOne with metrics, which somebody reads each second. The other
// culverts have no address to read metrics on, so they count nothing.
const culvertMetrics = "culvert, GOMAXPROCS=1, metrics"

func (a *arena) culvertMetrics(ctx context.Context) (*peer, error) {
	p, err := a.culvert(ctx, &peer{name: culvertMetrics, health: freeAddress()}, oneThread)
	if err == nil {
		p.scraper = scrape(ctx, p.metricsPage())
	}
	return p, err
}

// metricsPage is the URL of a culvert's metrics.
func (p *peer) metricsPage() string { return "http://" + p.health + "/metrics" }

// A scraper reads a page of metrics each second, which is far more often than people
// have Prometheus do it.
type scraper struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu  sync.Mutex
	err error // the last one
}

func scrape(ctx context.Context, url string) *scraper {
	s := &scraper{}
	ctx, s.cancel = context.WithCancel(ctx)
	s.running.Go(func() {
		for {
			if err := scrapeOnce(ctx, url); err != nil && ctx.Err() == nil {
				s.mu.Lock()
				s.err = err
				s.mu.Unlock()
			}
			if pause(ctx, time.Second) != nil {
				return
			}
		}
	})
	return s
}

func scrapeOnce(ctx context.Context, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || n == 0) {
		err = fmt.Errorf("%s: %s, %d bytes", url, answer.Status, n)
	}
	return err
}

// stop ends the scraper, and waits for it. s may be nil.
func (s *scraper) stop() {
	if s != nil {
		s.cancel()
		s.running.Wait()
	}
}

// failed returns why a page couldn't be read, or nil. s may be nil.
func (s *scraper) failed() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.err)
}
