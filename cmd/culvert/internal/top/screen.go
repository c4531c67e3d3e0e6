package top

import (
	"context"
	"errors"
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
	enter = "\x1b[?1049h\x1b[?25l\x1b[?7l" // the alternate screen, without a cursor; lines that the terminal finds longer than cells does aren't continued
	leave = "\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// errLeft means that a person has ended the Screen.
var errLeft = errors.New("a key ends top")

// Run draws until q, Ctrl-C or the context's end. It returns an error only if the first page
// can't be fetched: later ones show it.
func (s *Screen) Run(ctx context.Context, order string) error {
	state, err := s.fetch(ctx, &order)
	switch {
	case errors.Is(err, errLeft):
		return nil
	case err != nil:
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
			if !open || leaves(key) {
				return nil
			}
			if key != nextOrder {
				continue
			}
			order = after(order)
		case <-tick.C:
		}
		var next *State
		if next, err = s.fetch(ctx, &order); err == nil {
			state = next
		}
		if ctx.Err() != nil || errors.Is(err, errLeft) {
			return nil //nolint:nilerr // a signal or a key ends the page
		}
	}
}

const nextOrder = 'o'

func leaves(key byte) bool { return key == 'q' || key == ctrlC }

func after(order string) string {
	return admin.Orders[(slices.Index(admin.Orders, order)+1)%len(admin.Orders)]
}

// fetch fetches as many calls as can be on the screen, in the order that is chosen when the
// answer comes.
func (s *Screen) fetch(ctx context.Context, order *string) (*State, error) {
	for {
		asked := *order
		if state, err := s.ask(ctx, order); err != nil || *order == asked {
			return state, err
		}
	}
}

// ask asks once, and heeds keys meanwhile: in raw mode Ctrl-C is one, and culvert may not answer
// for seconds. Its goroutine ends before it returns.
func (s *Screen) ask(ctx context.Context, order *string) (state *State, err error) {
	ctx, cancel := context.WithCancel(ctx)
	_, height := s.Size()
	answered := make(chan struct{})
	asked := *order
	go func() {
		defer close(answered)
		state, err = s.Fetch(ctx, asked, max(height, 1))
	}()
	defer func() {
		cancel()
		<-answered
	}()
	for keys := s.Keys; ; {
		select {
		case <-answered:
			return state, err
		case key, open := <-keys:
			switch {
			case !open:
				keys = nil // Run ends after this page
			case leaves(key):
				cancel()
				<-answered
				return nil, errLeft
			case key == nextOrder:
				*order = after(*order)
			}
		}
	}
}

// clearLine comes before a line: behind one as wide as the terminal, it would clear the last cell.
const clearLine = "\x1b[2K"

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
		b.WriteString(clearLine + line + "\r\n")
	}
	fmt.Fprintf(&b, "\x1b[J\x1b[%d;1H"+clearLine+"%s", height, cut(terminal.Text(keys), width))
	_, _ = io.WriteString(s.Out, b.String()) // as above
}
