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

// maxQuoted is how many characters of a client's text an answer repeats.
const maxQuoted = 300

// errInterrupted ends an answer that the client doesn't want any more.
var errInterrupted = errors.New("interrupted by the client")

type conversation = grpc.BidiStreamingServer[demopb.ConverseRequest, demopb.ConverseResponse]

// Converse implements demopb.DemoServer. It reads the client's turns while one
// other goroutine, which it waits for, speaks the answer.
func (s *service) Converse(stream conversation) error {
	var speaking sync.WaitGroup
	var calls uint32     // tool calls so far, counted by whoever speaks
	current := &answer{} // none is running
	defer func() {
		current.stop()
		speaking.Wait()
	}()
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			current.noMoreResults()
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

// answer is what the server says to one prompt. Its zero value is no answer.
type answer struct {
	stream   conversation
	ctx      context.Context // begins and ends with the answer
	cancel   context.CancelCauseFunc
	interval pace
	steps    []step
	calls    *uint32 // the conversation's, so that no call's id is used twice
	end      demopb.AnswerEnd
	err      error // of speak, once that has returned

	results chan *demopb.ToolResult // holds one: a call has one result
	mu      sync.Mutex
	open    string // the id of the call that waits for its result
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

// noMoreResults tells the answer that the client has half-closed.
func (a *answer) noMoreResults() {
	if a.results != nil {
		close(a.results)
	}
}

// deliver hands over the result of the open call.
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

// speak says the whole answer. Nothing else sends on the stream meanwhile.
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

// say streams a text token by token.
func (a *answer) say(text string) error {
	for token := range strings.SplitAfterSeq(text, " ") {
		if token == "" {
			continue // what follows the last blank
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

// call has the client run a tool, and waits for what comes out.
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

// step is one thing an answer does: say a text, or call a tool and say a text
// that what came out is put after.
type step struct{ tool, text string }

// skills says which words of a prompt make an answer use which tool.
var skills = []struct {
	tool      string
	words     []string
	ask, tell string
}{
	{"local_time", []string{"time", "clock", "late", "date", "today"}, "A server can't know the time where you are, so I ask your side. ", "Your clock says "},
	{"window_size", []string{"window", "screen", "size", "wide", "big"}, "Only your side can see your window, so I ask it. ", "It measures "},
	{"languages", []string{"language", "languages", "speak"}, "Your side knows what you read, so I ask it. ", "You prefer "},
}

// plan decides what to answer: the same for the same prompt, tools and caller.
func plan(ctx context.Context, text string, tools []string) []step {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && r < 0x80 })
	asks := func(about ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(about, w) })
	}
	var steps []step
	if asks("there", "connected", "path", "way", "proxy", "see", "hello", "hi") {
		steps = append(steps, step{text: "I am here, and what reaches me is " + describeCaller(ctx) + ". "})
	}
	for _, skill := range skills {
		if !asks(skill.words...) {
			continue
		}
		if !slices.Contains(tools, skill.tool) {
			steps = append(steps, step{text: "For that I would need the tool " + skill.tool + ", which you don't offer. "})
			continue
		}
		steps = append(steps, step{text: skill.ask}, step{tool: skill.tool, text: skill.tell})
	}
	if len(steps) == 0 {
		steps = append(steps, step{text: "You said “" + quote(text) + "”. I am a script and no model: the same words always get the same answer. "})
		if len(tools) > 0 {
			steps = append(steps,
				step{text: "But I can use your tools in the middle of an answer. "},
				step{tool: tools[0], text: "Your " + quote(tools[0]) + " gives "})
		}
	}
	return append(steps, step{text: "All of it on one stream."})
}

// describeCaller says what the backend sees of whoever called it.
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

// quote cuts a client's text short before it is repeated.
func quote(text string) string {
	if runes := []rune(text); len(runes) > maxQuoted {
		return string(runes[:maxQuoted]) + "…"
	}
	return text
}
