package demo

import (
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/demo/demopb"
)

// talk is the client's end of a conversation.
type talk struct {
	*testing.T
	stream grpc.BidiStreamingClient[demopb.ConverseRequest, demopb.ConverseResponse]
}

func newTalk(t *testing.T) *talk {
	t.Helper()
	stream, err := demopb.NewDemoClient(dialService(t)).Converse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &talk{t, stream}
}

func (t *talk) send(req *demopb.ConverseRequest) {
	t.Helper()
	if err := t.stream.Send(req); err != nil {
		t.Fatal(err)
	}
}

func (t *talk) prompt(text string, tools ...string) {
	t.Helper()
	t.send(&demopb.ConverseRequest{Turn: &demopb.ConverseRequest_Prompt{Prompt: &demopb.Prompt{Text: text, Tools: tools}}})
}

func (t *talk) result(id, output string) {
	t.Helper()
	t.send(&demopb.ConverseRequest{Turn: &demopb.ConverseRequest_ToolResult{ToolResult: &demopb.ToolResult{
		CallId: id, Outcome: &demopb.ToolResult_Output{Output: output},
	}}})
}

// hear collects an answer's text up to a tool call or its end.
func (t *talk) hear() (text string, call *demopb.ToolCall, end *demopb.AnswerEnd) {
	t.Helper()
	for {
		res, err := t.stream.Recv()
		if err != nil {
			t.Fatalf("after %q: %v", text, err)
		}
		text += res.GetToken().GetText()
		if res.GetToolCall() != nil || res.GetEnd() != nil {
			return text, res.GetToolCall(), res.GetEnd()
		}
	}
}

// ending half-closes and returns the conversation's status.
func (t *talk) ending() codes.Code {
	t.Helper()
	if err := t.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := t.stream.Recv(); errors.Is(err, io.EOF) {
			return codes.OK
		} else if err != nil {
			return status.Code(err)
		}
	}
}

func TestAnswerWaitsForTheClientsTool(t *testing.T) {
	talk := newTalk(t)
	talk.prompt("How late is it, and how big is my window?", "local_time", "window_size")
	_, call, _ := talk.hear()
	if call.GetName() != "local_time" {
		t.Fatalf("the first call is %v, want local_time", call)
	}
	talk.result(call.GetCallId(), "half past four")
	text, call, _ := talk.hear()
	if !strings.Contains(text, "half past four") || call.GetName() != "window_size" {
		t.Fatalf("got %q and %v, want the time and a call of window_size", text, call)
	}
	talk.result(call.GetCallId(), "800 × 600")
	text, _, end := talk.hear()
	if !strings.Contains(text, "800 × 600") || end.GetToolCalls() != 2 || end.GetTokens() == 0 || end.GetInterrupted() {
		t.Errorf("got %q and %v, want the size and an end after 2 calls", text, end)
	}
	if got := talk.ending(); got != codes.OK {
		t.Errorf("ended with %v, want OK", got)
	}
}

func TestSamePromptGetsTheSameAnswer(t *testing.T) {
	talk := newTalk(t)
	talk.prompt("Tell me about culverts")
	first, _, _ := talk.hear()
	talk.prompt("Tell me about culverts")
	second, _, _ := talk.hear()
	if first != second || !strings.Contains(first, "Tell me about culverts") {
		t.Errorf("got %q, then %q, want the same answer twice", first, second)
	}
}

func TestInterruptEndsTheAnswer(t *testing.T) {
	talk := newTalk(t)
	talk.prompt("What time is it?", "local_time")
	_, first, _ := talk.hear()
	talk.send(&demopb.ConverseRequest{Turn: &demopb.ConverseRequest_Interrupt{Interrupt: &demopb.Interrupt{}}})
	if _, _, end := talk.hear(); !end.GetInterrupted() {
		t.Errorf("got %v, want an interrupted end", end)
	}
	talk.prompt("What time is it?", "local_time")
	_, second, _ := talk.hear()
	if first.GetCallId() == second.GetCallId() {
		t.Errorf("two calls have the id %q", first.GetCallId())
	}
	talk.prompt("Never mind")
	if _, _, end := talk.hear(); !end.GetInterrupted() {
		t.Errorf("a prompt in the middle of an answer ended it with %v, want an interrupted end", end)
	}
	if _, _, end := talk.hear(); end.GetInterrupted() {
		t.Errorf("the next answer ended with %v, want a whole one", end)
	}
}

func TestHalfCloseFinishesTheAnswer(t *testing.T) {
	talk := newTalk(t)
	talk.prompt("Goodbye")
	if err := talk.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if text, _, end := talk.hear(); !strings.Contains(text, "Goodbye") || end.GetTokens() == 0 || end.GetInterrupted() {
		t.Errorf("got %q and %v, want the whole answer", text, end)
	}
	if got := talk.ending(); got != codes.OK {
		t.Errorf("ended with %v, want OK", got)
	}
}

func TestConversationRefusesWhatIsOutOfTurn(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*talk)
		want codes.Code
	}{
		"empty turn":       {func(k *talk) { k.send(&demopb.ConverseRequest{}) }, codes.InvalidArgument},
		"empty prompt":     {func(k *talk) { k.prompt(" ") }, codes.InvalidArgument},
		"long prompt":      {func(k *talk) { k.prompt(strings.Repeat("x", maxTextBytes+1)) }, codes.InvalidArgument},
		"result uncalled":  {func(k *talk) { k.result("call-1", "x") }, codes.InvalidArgument},
		"result to nobody": {func(k *talk) { k.prompt("time?", "local_time"); k.hear(); k.result("call-7", "x") }, codes.InvalidArgument},
		"result too late":  {func(k *talk) { k.prompt("time?", "local_time"); k.hear() }, codes.FailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			talk := newTalk(t)
			c.do(talk)
			if got := talk.ending(); got != c.want {
				t.Errorf("ended with %v, want %v", got, c.want)
			}
		})
	}
}
