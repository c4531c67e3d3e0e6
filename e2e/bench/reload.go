package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"
)

// culvert's messages in its log.
const (
	loggedReloaded    = "configuration reloaded"
	loggedNotReloaded = "configuration not reloaded: culvert continues with the old one"
)

// culvert with and without open streams.
const (
	manyStreams = "10,000 streams"
	deafStreams = "clients that don't close"
	noStreams   = "no streams"
)

// An operated is a culvert with a configuration file, and as many open streams as its
// name says.
type operated struct {
	*peer
	file string
	end  func() // closes the streams and waits
}

// operate starts culvert with a configuration and opens the streams. ended gets each
// stream and how it ended; it may be nil. The caller calls close, or end and stop.
func (a *arena) operate(ctx context.Context, name, content string, ended func(stream, error)) (*operated, error) {
	o := &operated{end: func() {}}
	var err error
	if o.file, err = a.config(content); err != nil {
		return nil, err
	}
	if o.peer, err = a.culvert(ctx, &peer{name: "culvert"}, nil, "--config", o.file); err != nil {
		return nil, err
	}
	if name != noStreams {
		if o.end, err = o.openIdle(ctx, idleStreams, ended); err != nil {
			o.close()
			return nil, err
		}
	}
	return o, nil
}

func (o *operated) close() {
	o.stop()
	o.end()
}

// changedConfig returns a configuration that changes rules of every kind for each i.
func changedConfig(i int) string {
	return fmt.Sprintf(`routes: [{name: r%d, backend: default}]
backend: {queue_timeout: %ds}
limits: {calls: %d, methods: [{pattern: "bench.*/*", calls: %d}]}
allow_origins: ["https://a%d.example"]
hosts: [h%d.example]
methods: {deny: ["denied%d.*/*"]}
`, i, 30+i, 50_000+i, 60_000+i, i, i, i)
}

// reload replaces the file, sends SIGHUP, and returns how long it took until the new
// configuration applied, by the log's own times.
func (o *operated) reload(ctx context.Context, content string) (time.Duration, error) {
	next := o.file + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		return 0, err
	}
	log, err := os.ReadFile(o.proc.logs)
	if err != nil {
		return 0, err
	}
	if err := os.Rename(next, o.file); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := o.proc.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for read := len(log); ; {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, fmt.Errorf("no reload in the log: %w", err)
		}
		if log, err = os.ReadFile(o.proc.logs); err != nil {
			return 0, err
		}
		for line := range bytes.Lines(log[read:]) {
			if !bytes.HasSuffix(line, []byte("\n")) {
				break // the rest follows
			}
			read += len(line)
			var entry struct {
				Time time.Time
				Msg  string
			}
			if err := json.Unmarshal(line, &entry); err != nil {
				return 0, fmt.Errorf("%w: %s", err, line)
			}
			switch entry.Msg {
			case loggedReloaded:
				return entry.Time.Sub(began), nil
			case loggedNotReloaded:
				return 0, fmt.Errorf("%s", line)
			}
		}
	}
}

// reloadTime is the median of 20 reloads, in milliseconds.
func reloadTime(ctx context.Context, a *arena, name string) (float64, error) {
	o, err := a.operate(ctx, name, changedConfig(0), nil)
	if err != nil {
		return 0, err
	}
	defer o.close()
	return medianTime(20, func(i int) (time.Duration, error) { return o.reload(ctx, changedConfig(i+1)) })
}

// reloadRoutesTime is the median of nine reloads from 1 route to 10,000, in
// milliseconds.
func reloadRoutesTime(ctx context.Context, a *arena, _ string) (float64, error) {
	o, err := a.operate(ctx, noStreams, routesConfig(1), nil)
	if err != nil {
		return 0, err
	}
	defer o.close()
	return medianTime(9, func(int) (time.Duration, error) {
		took, err := o.reload(ctx, routesConfig(10_000))
		if err == nil {
			_, err = o.reload(ctx, routesConfig(1))
		}
		return took, err
	})
}

// reloadMemory is how much more memory culvert has after 20 reloads, in MiB.
func reloadMemory(ctx context.Context, a *arena, name string) (float64, error) {
	o, err := a.operate(ctx, name, changedConfig(0), nil)
	if err != nil {
		return 0, err
	}
	defer o.close()
	if _, err := o.reload(ctx, changedConfig(1)); err != nil { // what the first one needs
		return 0, err
	}
	before, err := o.resident()
	if err != nil {
		return 0, err
	}
	for i := range 20 {
		if _, err := o.reload(ctx, changedConfig(i+2)); err != nil {
			return 0, err
		}
	}
	after, err := o.resident()
	return float64(after-before) / mib, err
}
