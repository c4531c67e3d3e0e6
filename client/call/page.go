package call

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/client/internal/cors"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// A page makes a call. A nil page stands for a program, which no browser watches.
type page struct {
	*cors.Page
	judged bool // mayCall has said what it has to say
}

// mark adds what a browser adds to a request.
func (p *page) mark(h http.Header) {
	if p != nil {
		p.Mark(h)
	}
}

// mixed returns an error if the page was loaded over TLS, and calls in plaintext.
func (p *page) mixed() error {
	if p == nil || !p.Mixed {
		return nil
	}
	return &forbidden{p.Origin, "it was loaded over HTTPS, and browsers let it call only https: and wss: URLs (mixed content)"}
}

// A forbidden error says why a browser wouldn't let a page make a call, or see its answer.
type forbidden struct{ origin, why string }

func (e *forbidden) Error() string {
	return fmt.Sprintf("a page of %s can't make this call: %s", e.origin, e.why)
}

// mayCall marks a request as a page's, makes the preflight that a browser would make before it,
// and returns an error if the answer forbids the call.
func (p *page) mayCall(ctx context.Context, w *web, r *http.Request) error {
	if p == nil {
		return nil
	}
	p.Mark(r.Header)
	if err := p.mixed(); err != nil {
		return err
	}
	q, err := p.Preflight(ctx, r)
	if q == nil {
		return err //nolint:wrapcheck // it says what it is
	}
	q.Header.Set("User-Agent", w.c.agent())
	w.c.trace.say(note, "the preflight, which a browser sends first:")
	res, err := w.roundTrip(q, "")
	if err != nil {
		return fmt.Errorf("the preflight: %w", err)
	}
	a, _ := answer.Of(res.StatusCode, res.Header, res.Body)
	_ = res.Body.Close() // it is closed
	if why := p.Refusal(q, res); why != "" {
		if a.Says != "" {
			why += fmt.Sprintf(" (%q)", a.Says)
		}
		return &forbidden{p.Origin, "the answer to the preflight " + why}
	}
	if !p.judged {
		w.c.out.note("a page of %s may make this call: the preflight allows it", p.Origin)
		p.judged = true
	}
	return nil
}

// opened says that a WebSocket has been opened: no preflight goes before it, and the server
// judges the origin.
func (p *page) opened(c *caller) {
	if p != nil {
		c.out.note("a page of %s may open this WebSocket", p.Origin)
	}
}

// mayRead says what of an answer a page gets.
func (p *page) mayRead(c *caller, res *http.Response) {
	if p == nil || p.SameOrigin {
		return
	}
	if why := p.Unreadable(res.Header); why != "" {
		c.out.note("a page of %s can't read this answer: it %s", p.Origin, why)
		return
	}
	if hidden := p.hidden(res.Header); len(hidden) > 0 {
		c.out.note("a page of %s can't read these headers: %s (access-control-expose-headers)", p.Origin, strings.Join(hidden, ", "))
	}
}

// hidden returns the names of the metadata that a page can't read.
func (p *page) hidden(h http.Header) []string {
	var names []string
	for name := range h {
		name = strings.ToLower(name)
		if ofTransport := isTransport(name) && !strings.HasPrefix(name, "grpc-"); !ofTransport && !p.MayRead(h, name) {
			names = append(names, terminal.Text(name))
		}
	}
	slices.Sort(names)
	return names
}
