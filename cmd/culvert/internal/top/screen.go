package top

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A Screen draws a page again each second, until a key ends it.
type Screen struct {
	// Fetch returns what a page shows, with the first calls of an order.
	Fetch func(ctx context.Context, order string, calls int) (*State, error)

	Out  io.Writer                  // a terminal in raw mode
	Size func() (width, height int) // of it
	Keys <-chan byte                // that a person presses
}

// interval is between two pages.
const interval = time.Second

const (
	ctrlC = 3
	enter = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	leave = "\x1b[?25h\x1b[?1049l"
)

// Run draws until q, Ctrl-C or the context's end. It returns an error only if the first page
// can't be fetched: later ones show it.
func (s *Screen) Run(ctx context.Context, order string) error {
	state, err := s.fetch(ctx, order)
	if err != nil {
		return err
	}
	_, _ = io.WriteString(s.Out, enter) // a terminal that is gone ends the process by SIGHUP
	defer func() { _, _ = io.WriteString(s.Out, leave) }()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s.draw(state, err, order)
		select {
		case <-ctx.Done():
			return nil
		case key, open := <-s.Keys:
			switch {
			case !open, key == 'q', key == ctrlC:
				return nil
			case key == 'o':
				order = admin.Orders[(slices.Index(admin.Orders, order)+1)%len(admin.Orders)]
			default:
				continue
			}
		case <-tick.C:
		}
		var next *State
		if next, err = s.fetch(ctx, order); err == nil {
			state = next
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // a signal ends the page
		}
	}
}

// fetch fetches as many calls as can be on the screen.
func (s *Screen) fetch(ctx context.Context, order string) (*State, error) {
	_, height := s.Size()
	return s.Fetch(ctx, order, max(height, 1))
}

func (s *Screen) draw(state *State, err error, order string) {
	width, height := s.Size()
	keys := "q: end   o: next order"
	if err != nil {
		keys = "! " + strings.ReplaceAll(err.Error(), "\n", " ") + "   (q: end)"
	}
	lines := Page(state, width, max(height-1, 0), order)
	var b strings.Builder
	b.WriteString("\x1b[H")
	for _, line := range lines {
		b.WriteString(line + "\x1b[K\r\n")
	}
	fmt.Fprintf(&b, "\x1b[J\x1b[%d;1H%s\x1b[K", height, cut(terminal.Text(keys), width))
	_, _ = io.WriteString(s.Out, b.String()) // as above
}
