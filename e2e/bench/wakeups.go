package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// restTime is how long wake-ups are counted: two intervals of pings.
const restTime = 40 * time.Second

// restWakeUps counts how often threads of the program wake up in a second, while
// streams are open and carry nothing.
func restWakeUps(streams int) measure {
	return fresh(func(ctx context.Context, p *peer) (float64, error) {
		end, err := p.openIdle(ctx, streams, nil)
		defer end()
		if err != nil {
			return 0, err
		}
		if err := pause(ctx, 5*time.Second); err != nil { // what the start leaves to do
			return 0, err
		}
		before, err := p.proc.switches()
		if err != nil {
			return 0, err
		}
		if err := pause(ctx, restTime); err != nil {
			return 0, err
		}
		after, err := p.proc.switches()
		return float64(after-before) / restTime.Seconds(), err
	})
}

// shareOfWakeUps returns the wake-ups of a program in percent of another's.
func shareOfWakeUps(streams int, than string) measure {
	count := restWakeUps(streams)
	return func(ctx context.Context, a *arena, name string) (float64, error) {
		more, err := count(ctx, a, name)
		if err != nil {
			return 0, err
		}
		less, err := count(ctx, a, than)
		return 100 * more / less, err
	}
}

// number returns the number behind a name at the beginning of a line in a file.
func number(file, name string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), name); ok {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(n), " kB"), 10, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("%s has no %s", file, strings.TrimSuffix(name, ":")), lines.Err())
}
