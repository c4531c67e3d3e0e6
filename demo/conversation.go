package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// maxQuoted is how many characters of a client's text an answer quotes.
const maxQuoted = 300

// errInterrupted is the cause of an answer that the client has stopped.
var errInterrupted = errors.New("interrupted by the client")

type conversation = grpc.BidiStreamingServer[demopb.ConverseRequest, demopb.ConverseResponse]

// Converse implements demopb.DemoServer. It reads the client's turns. Another
// goroutine sends the answer, and Converse waits for it.
func (s *service) Converse(stream conversation) error {
	var speaking sync.WaitGroup
	var calls uint32     // tool calls so far; only the answering goroutine uses it
	current := &answer{} // none is running
	defer func() {
		current.stop()
		speaking.Wait()
	}()
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if current.results != nil { // the client has half-closed
				close(current.results)
			}
			speaking.Wait()
			return current.err
		}
		if err != nil {
			return err
		}
		switch turn := req.GetTurn().(type) {
		case *demopb.ConverseRequest_Prompt:
			if err := checkPrompt(turn.Prompt); err != nil {
				return err
			}
			current.stop()
			speaking.Wait()
			current = s.newAnswer(stream, turn.Prompt, &calls)
			speaking.Go(current.speak)
		case *demopb.ConverseRequest_ToolResult:
			if err := current.deliver(turn.ToolResult); err != nil {
				return err
			}
		case *demopb.ConverseRequest_Interrupt:
			current.stop()
		default:
			return invalid("TURN_INVALID", violation("turn", "is not set"))
		}
	}
}

func checkPrompt(prompt *demopb.Prompt) error {
	text := prompt.GetText()
	if strings.TrimSpace(text) == "" {
		return invalid("PROMPT_INVALID", violation("prompt.text", "must not be empty"))
	}
	if len(text) > maxTextBytes {
		return invalid("PROMPT_INVALID", violation("prompt.text", fmt.Sprintf("%d bytes are over %d", len(text), maxTextBytes)))
	}
	return nil
}

// answer is the server's answer to one prompt. The zero value is no answer.
type answer struct {
	stream   conversation
	ctx      context.Context // of the answer
	cancel   context.CancelCauseFunc
	interval pace
	steps    []step
	calls    *uint32 // of the conversation, so that call ids are unique
	end      demopb.AnswerEnd
	err      error // of speak, after it has returned

	results chan *demopb.ToolResult // capacity 1: a call has one result
	mu      sync.Mutex
	open    string // id of the tool call without a result
}

func (s *service) newAnswer(stream conversation, prompt *demopb.Prompt, calls *uint32) *answer {
	a := &answer{
		stream:   stream,
		interval: newPace(s.tokenInterval),
		steps:    plan(stream.Context(), strings.TrimSpace(prompt.GetText()), prompt.GetTools()),
		calls:    calls,
		results:  make(chan *demopb.ToolResult, 1),
	}
	a.ctx, a.cancel = context.WithCancelCause(stream.Context())
	return a
}

// stop interrupts the answer, if it is still running.
func (a *answer) stop() {
	if a.cancel == nil {
		return
	}
	a.cancel(errInterrupted)
	a.setOpen("")
}

// deliver passes the result of the open tool call to the answer.
func (a *answer) deliver(result *demopb.ToolResult) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == "" || result.GetCallId() != a.open {
		return invalid("TOOL_RESULT_INVALID", violation("tool_result.call_id", fmt.Sprintf("no call %q is open", result.GetCallId())))
	}
	a.open = ""
	a.results <- result
	return nil
}

func (a *answer) setOpen(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = id
}

// speak sends the whole answer. Nothing else sends on the stream meanwhile.
func (a *answer) speak() {
	defer a.interval.stop()
	defer a.cancel(nil)
	var err error
	for _, step := range a.steps {
		text := step.text
		if step.tool != "" {
			var output string
			if output, err = a.call(step.tool); err != nil {
				break
			}
			text += output + ". "
		}
		if err = a.say(text); err != nil {
			break
		}
	}
	if errors.Is(err, errInterrupted) {
		a.end.Interrupted, err = true, nil
	}
	if err == nil {
		err = a.stream.Send(&demopb.ConverseResponse{Event: &demopb.ConverseResponse_End{End: &a.end}})
	}
	a.err = err
}

func (a *answer) say(text string) error {
	for token := range strings.SplitAfterSeq(text, " ") {
		if token == "" {
			continue // after the last blank
		}
		if err := a.interval.wait(a.ctx); err != nil {
			return err
		}
		if err := a.stream.Send(&demopb.ConverseResponse{Event: &demopb.ConverseResponse_Token{Token: &demopb.Token{Text: token}}}); err != nil {
			return err
		}
		a.end.Tokens++
	}
	return nil
}

// call makes the client run a tool and waits for the result.
func (a *answer) call(tool string) (output string, err error) {
	a.end.ToolCalls++
	*a.calls++
	id := fmt.Sprintf("call-%d", *a.calls)
	a.setOpen(id) // before the client can answer
	call := &demopb.ToolCall{CallId: id, Name: tool}
	if err := a.stream.Send(&demopb.ConverseResponse{Event: &demopb.ConverseResponse_ToolCall{ToolCall: call}}); err != nil {
		return "", err
	}
	select {
	case result, ok := <-a.results:
		if !ok {
			return "", failure(codes.FailedPrecondition, fmt.Sprintf("the client half-closed before it answered %s (%s)", id, tool),
				&errdetails.ErrorInfo{Reason: "TOOL_RESULT_MISSING", Domain: errorDomain, Metadata: map[string]string{"call_id": id}})
		}
		if failed := result.GetError(); failed != "" {
			return "nothing, because “" + quote(failed) + "”", nil
		}
		return quote(result.GetOutput()), nil
	case <-a.ctx.Done():
		return "", context.Cause(a.ctx)
	}
}

// A step is a part of an answer: a text, or a tool call and a text that the
// tool's output completes.
type step struct{ tool, text string }

// skills maps words of a prompt to the tool that answers them.
var skills = []struct {
	tool      string
	words     []string
	ask, tell string
}{
	{"local_time", []string{"time", "clock", "late", "date", "today"}, "A server can't know your local time, so I ask your browser. ", "Your clock says "},
	{"window_size", []string{"window", "screen", "size", "wide", "big"}, "A server can't see your window, so I ask your browser. ", "Your window measures "},
	{"languages", []string{"language", "languages", "speak"}, "Your browser knows your languages, so I ask it. ", "You prefer "},
}

// plan returns the answer's steps. The same prompt, tools and caller always get
// the same steps.
func plan(ctx context.Context, text string, tools []string) []step {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && r < 0x80 })
	asks := func(about ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(about, w) })
	}
	var steps []step
	if asks("there", "connected", "path", "way", "proxy", "see", "hello", "hi") {
		steps = append(steps, step{text: "I am here. I received " + describeCaller(ctx) + ". "})
	}
	for _, skill := range skills {
		if !asks(skill.words...) {
			continue
		}
		if !slices.Contains(tools, skill.tool) {
			steps = append(steps, step{text: "I would need the tool " + skill.tool + ", and you don't offer it. "})
			continue
		}
		steps = append(steps, step{text: skill.ask}, step{tool: skill.tool, text: skill.tell})
	}
	if len(steps) == 0 {
		steps = append(steps, step{text: "You said “" + quote(text) + "”. I am a script, not a model: the same question always gets the same answer. "})
		if len(tools) > 0 {
			steps = append(steps,
				step{text: "But I can call your tools in the middle of an answer. "},
				step{tool: tools[0], text: "Your " + quote(tools[0]) + " gives "})
		}
	}
	return append(steps, step{text: "All of this is one gRPC stream."})
}

// describeCaller describes the call as the backend sees it.
func describeCaller(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	text := "an ordinary gRPC call over HTTP/2"
	for _, seen := range []struct{ key, word string }{{"user-agent", "from"}, {"x-forwarded-for", "on behalf of"}} {
		if values := md.Get(seen.key); len(values) > 0 {
			text += ", " + seen.word + " " + quote(strings.Join(values, ", "))
		}
	}
	return text
}

func quote(text string) string {
	if runes := []rune(text); len(runes) > maxQuoted {
		return string(runes[:maxQuoted]) + "…"
	}
	return text
}
