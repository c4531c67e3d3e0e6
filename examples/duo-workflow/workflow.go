package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/examples/duo-workflow/duopb"
)

// A service has workflows, which outlive the connections of their clients. A real
// service keeps them in a database, and checks whose they are.
type service struct {
	duopb.UnimplementedWorkflowServer
	pause time.Duration // before a token

	mu        sync.Mutex
	workflows map[string]*workflow // by id
}

// A workflow is what the service has been told. All its events follow from that, so
// they can be sent again.
type workflow struct {
	id, goal string

	mu     sync.Mutex
	result *string // of the tool call; nil: open
}

// callID is the tool call of a workflow, of which there is one.
const callID = "call-1"

// Converse sends the events that the client doesn't have, and reads a result when
// there is nothing to send without it.
func (s *service) Converse(stream grpc.BidiStreamingServer[duopb.ClientEvent, duopb.ServerEvent]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	w, received, err := s.find(first)
	if err != nil {
		return err
	}
	for {
		events, done := w.events()
		for ; received < len(events); received++ {
			if err := s.wait(stream, events[received]); err != nil {
				return err
			}
			if err := stream.Send(events[received]); err != nil {
				return err
			}
		}
		if done {
			return nil
		}
		m, err := stream.Recv()
		if err != nil {
			return err // the client is gone, and may resume
		}
		w.answer(m.GetToolResult())
	}
}

// find returns the workflow that the client's first message is about, and how many of
// its events the client has.
func (s *service) find(first *duopb.ClientEvent) (*workflow, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if start := first.GetStart(); start != nil {
		w := &workflow{id: rand.Text(), goal: start.GetGoal()} // nobody can guess the id
		s.workflows[w.id] = w
		return w, 0, nil
	}
	resume := first.GetResume()
	if resume == nil {
		return nil, 0, status.Error(codes.InvalidArgument, "the first message must be start or resume")
	}
	w := s.workflows[resume.GetWorkflowId()]
	if w == nil {
		return nil, 0, status.Error(codes.NotFound, "there is no such workflow: start another")
	}
	events, done := w.events()
	received := min(int(resume.GetReceived()), len(events))
	if !done {
		received = min(received, len(events)-1) // the tool call comes again
	}
	return w, received, nil
}

// wait makes tokens come slowly, as from a model.
func (s *service) wait(stream grpc.ServerStream, event *duopb.ServerEvent) error {
	if event.GetToken() == nil {
		return nil
	}
	select {
	case <-time.After(s.pause):
		return nil
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func (w *workflow) answer(result *duopb.ToolResult) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if result.GetCallId() == callID && w.result == nil {
		text := result.GetText()
		w.result = &text
	}
}

// events returns the events so far: a sentence, a tool call, and after its result an
// answer, done. Without a result, the last one is the tool call.
func (w *workflow) events() (events []*duopb.ServerEvent, done bool) {
	add := func(e *duopb.ServerEvent) {
		e.Number = uint32(len(events) + 1)
		events = append(events, e)
	}
	say := func(text string) {
		for word := range strings.SplitAfterSeq(text, " ") {
			add(&duopb.ServerEvent{Event: &duopb.ServerEvent_Token{Token: &duopb.Token{Text: word}}})
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	file := fileIn(w.goal)
	add(&duopb.ServerEvent{Event: &duopb.ServerEvent_Started{Started: &duopb.Started{WorkflowId: w.id}}})
	say("I read " + file + " before I answer.\n")
	add(&duopb.ServerEvent{Event: &duopb.ServerEvent_ToolCall{ToolCall: &duopb.ToolCall{CallId: callID, Tool: "read_file", Argument: file}}})
	if w.result == nil {
		return events, false
	}
	say(review(*w.result))
	add(&duopb.ServerEvent{Event: &duopb.ServerEvent_Done{Done: &duopb.Done{}}})
	return events, true
}

// fileIn returns the first word of a text that looks like a file's name.
func fileIn(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \n?!,;:\"'", r) })
	at := slices.IndexFunc(words, func(word string) bool { return strings.Contains(strings.Trim(word, "."), ".") })
	if at < 0 {
		return "hello.py"
	}
	return strings.Trim(words[at], ".")
}

// review is all that this model can do.
func review(file string) string {
	lines := strings.Split(strings.TrimSpace(file), "\n")
	for i, line := range lines {
		if strings.Contains(line, "pritn") {
			return fmt.Sprintf("Line %d calls pritn, which does not exist. It should call print.", i+1)
		}
	}
	return fmt.Sprintf("I see no mistake in %d lines. The first is: %s", len(lines), cmp.Or(lines[0], "(empty)"))
}
