package check

import (
	"net/http"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/culvert-grpc/culvert/codec"
)

var fuzzed = names{request: reservedNames, response: reservedNames}

// holds checks what is true of each verdict, whatever the service says.
func holds(t *testing.T, v verdict, hidden secrets) {
	t.Helper()
	if v.refusal != nil {
		refusalHolds(t, v.refusal, hidden)
		return
	}
	n, bytes := 0, 0
	for _, edits := range []Edits{v.answer.Request, v.answer.Response} {
		for _, e := range edits {
			if n++; !codec.ValidName(e.Name) || reservedNames(e.Name) {
				t.Errorf("the name %q", e.Name)
			}
			if !strings.HasSuffix(e.Name, "-bin") && !codec.ValidValue(e.Value) || e.Action < Set || e.Action > Remove {
				t.Errorf("the edit %+v", e)
			}
			bytes += len(e.Name) + len(e.Value)
		}
		edits.Apply(metadata.MD{})
	}
	// A -bin field has up to 64 parts, and counts once; its parts share its bytes.
	if n > maxEdits*maxEdits || bytes > maxEditBytes*maxEdits {
		t.Errorf("%d edits of %d bytes", n, bytes)
	}
	if a := v.answer; len(a.Backend) > maxBackend || len(a.Subject) > maxSubject || !codec.ValidValue(a.Backend+a.Subject) || a.Open != nil || a.Cached {
		t.Errorf("the answer %+v", a)
	}
}

func refusalHolds(t *testing.T, r *Refusal, hidden secrets) {
	t.Helper()
	printable := func(r rune) bool { return unicode.IsPrint(r) }
	if r.Code < 1 || r.Code > 16 || r.Kind < Denied || r.Kind > Unavailable || r.Cause == nil {
		t.Errorf("the refusal %+v", r)
	}
	if len(r.Message) > maxMessageBytes || r.Message == "" || !utf8.ValidString(r.Message) || strings.ContainsFunc(r.Message, func(r rune) bool { return !printable(r) }) || hidden.in(r.Message) {
		t.Errorf("the message %q", r.Message)
	}
	if len(r.Error()) > 2<<10 || strings.ContainsAny(r.Error(), "\r\n") {
		t.Errorf("the cause %q", r.Error())
	}
	size := 0
	for name, values := range r.Header {
		if !codec.ValidName(name) || reservedNames(name) {
			t.Errorf("the name %q for the client", name)
		}
		for _, v := range values {
			if size += len(name) + len(v); !strings.HasSuffix(name, "-bin") && !codec.ValidValue(v) {
				t.Errorf("the value %q for the client", v)
			}
		}
	}
	if size > maxEditBytes*maxEdits {
		t.Errorf("a header of %d bytes", size)
	}
}

// FuzzCheckResponse makes verdicts of the bytes of a CheckResponse.
func FuzzCheckResponse(f *testing.F) {
	header := func(name, value string, action int32) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_HeaderAppendAction(action)}
	}
	culvert, err := structpb.NewStruct(map[string]any{"culvert": map[string]any{"backend": "blue", "subject": "alice"}})
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []*authv3.CheckResponse{
		{},
		{DynamicMetadata: culvert},
		{Status: &rpcstatus.Status{Code: 16, Message: "no"}},
		{Status: &rpcstatus.Status{Code: 99}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Body: "no", Headers: []*corev3.HeaderValueOption{header("x-a", "1", 0)}}}},
		{Status: &rpcstatus.Status{Code: 13}, HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{Body: "odd"}}},
		{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:         []*corev3.HeaderValueOption{header("X-User", "alice", 0), header("x-b-bin", "AAE,/w", 1), header("x-c", "", 3)},
			HeadersToRemove: []string{"authorization"}, ResponseHeadersToAdd: []*corev3.HeaderValueOption{header("x-quota", "7", 2)},
		}}},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	r := aCall()
	hidden := secretsOf(r.Metadata, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		response := &authv3.CheckResponse{}
		if proto.Unmarshal(b, response) != nil {
			return
		}
		v := fuzzed.ofCheck(response, hidden)
		holds(t, v, hidden)
		if allowed := v.refusal == nil; allowed && response.GetStatus().GetCode() != 0 {
			t.Errorf("a call is permitted by the status %d", response.GetStatus().GetCode())
		}
	})
}

// FuzzHTTPAnswer makes verdicts of a status, two headers and a body.
func FuzzHTTPAnswer(f *testing.F) {
	f.Add(200, "X-User", "alice", "X-Culvert-Backend", "blue", "")
	f.Add(200, "X-Sig-Bin", "AAE,/w==", "X-Envoy-Auth-Headers-To-Remove", "authorization, cookie", "fine")
	f.Add(401, "Www-Authenticate", `Bearer error="invalid_token", error_description="it expired"`, "Content-Type", "application/json", "{}")
	f.Add(403, "Content-Type", "text/plain; charset=utf-8", "X-Culvert-Subject", "alice", "not on\r\nSundays")
	f.Add(302, "Location", "https://login.example", "X-User", "\xff", "")
	f.Add(101, "", "", "", "", "")
	r := aCall()
	hidden := secretsOf(r.Metadata, nil)
	f.Fuzz(func(t *testing.T, code int, name1, value1, name2, value2, body string) {
		h := http.Header{}
		h.Add(name1, value1)
		h.Add(name2, value2)
		v := fuzzed.ofHTTP(httpAnswer{code, h, body}, []string{"x-user", "x-sig-bin"}, hidden)
		holds(t, v, hidden)
		if allowed := v.refusal == nil; allowed && (code < 200 || code > 299) {
			t.Errorf("a call is permitted by the status %d", code)
		}
	})
}
