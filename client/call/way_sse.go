package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/codec"
)

// maxQueryBytes is the longest message that a GET carries. Longer ones go by POST: many proxies
// refuse URLs of more than 8 KiB.
const maxQueryBytes = 4 << 10

// events is the way of server-sent events: one message in JSON goes, replies come as events.
// docs/reference/messages.md, "Events and lines".
type events struct{ *web }

// open implements way. It sends a GET, as an EventSource does.
func (e *events) open(ctx context.Context, q *request) (stream, error) {
	if !q.single {
		return nil, errors.New("an event stream takes one message, and the requests of this method stream")
	}
	r, err := e.request(ctx, http.MethodGet, q.path, timed(ctx, q.metadata))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	s := new(eventStream)
	s.start(e.web, r, q)
	return s, nil
}

// An eventStream is a call whose replies are events.
type eventStream struct {
	httpStream
	answer *codec.EventReader
}

// closeSend implements stream: now the message is known.
func (s *eventStream) closeSend() error {
	if len(s.whole) > maxQueryBytes {
		s.w.c.trace.say(note, "the message has %s: it goes by POST", bytesOf(len(s.whole)))
		s.r.Method = http.MethodPost
		s.r.Header.Set("Content-Type", "application/json")
	} else {
		s.r.URL.RawQuery = "message=" + url.QueryEscape(string(s.whole))
		s.whole, s.body = nil, fmt.Sprintf("a message of %s, in the query", bytesOf(len(s.whole)))
	}
	if err := s.page.mayCall(s.r.Context(), s.w, s.r); err != nil {
		return err
	}
	return s.httpStream.closeSend()
}

func (s *eventStream) header() (metadata.MD, error) {
	res, md, err := s.response() //nolint:bodyclose // close closes it
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK || mediaType(res.Header) != "text/event-stream" {
		return md, s.refused(res)
	}
	s.answer = codec.NewEventReader(res.Body, maxMessageBytes, func(string) {
		s.w.c.trace.say(received, "a comment: a heart-beat")
		s.w.c.watch.heard()
	})
	return md, nil
}

func (s *eventStream) recv() ([]byte, error) {
	if s.status != nil {
		return nil, io.EOF
	}
	event, err := s.answer.Next()
	if err != nil {
		return nil, bodyError(s.r.Context(), err)
	}
	if event.Name == "status" {
		st, ok := codec.ParseMessageStatus([]byte(event.Data))
		if !ok {
			return nil, errors.New("the answer is malformed: an event named status without one")
		}
		s.w.c.trace.say(received, "the event status, %s", bytesOf(len(event.Data)))
		s.status = st
		return nil, io.EOF
	}
	id := ""
	if event.ID != "" {
		id = ", id " + event.ID
	}
	s.w.c.trace.say(received, "an event of %s%s", bytesOf(len(event.Data)), id)
	return []byte(strings.TrimSpace(event.Data)), nil
}
