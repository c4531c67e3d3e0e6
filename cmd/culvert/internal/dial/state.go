package dial

import (
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/connectivity"

	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A stateLine tells the state of the way to the edge: a line for each change, or one line that
// changes. A goroutine prints them: a terminal that is stopped holds nothing else up.
type stateLine struct {
	edge    string
	width   func() int    // of the terminal; nil: none
	texts   chan string   // to print
	printed chan struct{} // closed once all are

	failing bool // since there was a connection; show's own

	mu    sync.Mutex
	last  string
	shown string // in the line that changes
	over  bool
}

const (
	// maxTexts bounds the texts that wait for a terminal.
	maxTexts = 100

	// printTimeout is how long end waits for it.
	printTimeout = time.Second
)

func newStateLine(out io.Writer, edge string, width func() int) *stateLine {
	s := &stateLine{edge: edge, width: width, texts: make(chan string, maxTexts), printed: make(chan struct{})}
	go s.run(out) // end waits for it, unless it is stuck
	return s
}

func (s *stateLine) run(out io.Writer) {
	defer close(s.printed)
	for text := range s.texts {
		_, _ = io.WriteString(out, text) // there is no other place to report it
	}
}

func (s *stateLine) print(text string) {
	select {
	case s.texts <- text:
	default: // nobody reads
	}
}

func (s *stateLine) show(now client.Status) {
	text := ""
	failing := s.failing
	s.failing = now.State == connectivity.TransientFailure || failing && now.State == connectivity.Connecting
	switch now.State {
	case connectivity.Connecting:
		if failing {
			return // the next attempt of many
		}
		text = "looking for a way to " + s.edge
	case connectivity.Ready:
		text = fmt.Sprintf("connected by %s, %s", now.Way, now.Latency.Round(100*time.Microsecond))
		if !now.TwoWay {
			text += ": requests and answers can't cross at the same time here, so bidirectional streams don't pass"
		}
		if now.TokenErr != nil {
			text = "running calls end when their token expires, which can't be renewed: " + now.TokenErr.Error()
		}
	case connectivity.TransientFailure:
		text = now.Err.Error()
	case connectivity.Idle:
		text = "no connection to " + s.edge + " at the moment"
	default:
		return
	}
	s.tell(text)
}

// announce prints a line that stays.
func (s *stateLine) announce(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf(format, args...) + "\n"
	if s.width != nil {
		text = terminal.ClearLine + text + s.shown
	}
	s.print(text)
}

// tell prints the state, over the one before if that is a status line.
func (s *stateLine) tell(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text = terminal.Text(text)
	if s.over || text == s.last {
		return
	}
	s.last = text
	if s.width == nil {
		s.print(text + "\n")
		return
	}
	s.print(terminal.ClearLine + text)
	if s.shown = text; utf8.RuneCountInString(text) >= s.width() {
		s.print("\n") // a text of several lines can't be replaced: it stays
		s.shown = ""
	}
}

// end leaves the status line: what follows are connections that are closed in good order. It
// waits a moment until all is printed, and may be called again.
func (s *stateLine) end() {
	if !s.close() {
		return
	}
	select {
	case <-s.printed:
	case <-time.After(printTimeout):
	}
}

func (s *stateLine) close() (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.over = true
	if s.shown != "" {
		s.print("\n")
	}
	close(s.texts)
	return true
}
