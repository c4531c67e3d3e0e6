package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

// watchdogInterval returns how often culvert must notify systemd's watchdog,
// or 0 for never. WATCHDOG_USEC has the time, and WATCHDOG_PID the process.
// https://www.freedesktop.org/software/systemd/man/latest/sd_watchdog_enabled.html
func watchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2 // half of the limit, as systemd advises
}

// watchdog looks at culvert at each interval and then notifies systemd. Without
// a notification, systemd ends the service.
func watchdog(ctx context.Context, log *slog.Logger, interval time.Duration, look func(ctx context.Context, patience time.Duration) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		looked := make(chan error, 1) // so that a late look doesn't block
		go func() { looked <- look(ctx, interval) }()
		select {
		case err := <-looked:
			if err == nil {
				notify(ctx, log, "WATCHDOG=1")
			} else if ctx.Err() == nil {
				log.Error("culvert doesn't answer itself, so it doesn't notify systemd's watchdog", "cause", err.Error())
			}
		case <-ctx.Done(): // a look that hangs ends with the process
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look checks that culvert can do what each call needs: locks are free, and
// the health listener accepts and answers. It doesn't connect to the public
// ports, because they refuse connections over their limits, which is no reason
// to end culvert. Another process may answer on a socket of the supervisor, so
// that says nothing about this one.
func (p *program) look(ctx context.Context, patience time.Duration) error {
	p.bridge.Probe()
	if p.ports.health == nil || p.ports.passed[healthKey] != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := askLivez(ctx, p.ports.health.Addr())
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return nil // connections have all descriptors, and they work
	}
	return err
}

func askLivez(ctx context.Context, at net.Addr) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/livez", nil)
	if err != nil {
		return err
	}
	response, err := sockets.Client(sockets.AddressOf(at)).Transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("/livez: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end
	_, err = io.Copy(io.Discard, response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("/livez: %s", response.Status)
	}
	return err
}
