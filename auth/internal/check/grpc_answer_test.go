package check

import (
	"context"
	"reflect"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

// checked returns what a real service's response, given as JSON, makes of a call.
func checked(t *testing.T, response string) (Answer, error) {
	t.Helper()
	r := &authv3.CheckResponse{}
	if err := protojson.Unmarshal([]byte(response), r); err != nil {
		t.Fatalf("%s: %v", response, err)
	}
	return answered(t, r)
}

func answered(t *testing.T, r *authv3.CheckResponse) (Answer, error) {
	t.Helper()
	o := patient()
	o.FailOpen = true // which covers none of these
	c := grpcChecker(t, GRPC{}, o, func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error) { return r, nil })
	defer c.Close()
	return c.Check(t.Context(), aCall())
}

func TestCheckAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		response string
		want     Answer
	}{
		"nothing at all":             {`{}`, Answer{}},
		"ok without an ok_response":  {`{"status": {"code": 0}}`, Answer{}},
		"an empty ok_response":       {`{"okResponse": {}}`, Answer{}},
		"a header sets by default":   {`{"okResponse": {"headers": [{"header": {"key": "X-User", "value": "alice"}}]}}`, Answer{Request: Edits{{"x-user", "alice", Set}}}},
		"append false":               {`{"okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}, "append": false}]}}`, Answer{Request: Edits{{"x-user", "alice", Set}}}},
		"append true":                {`{"okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}, "append": true}]}}`, Answer{Request: Edits{{"x-user", "alice", Append}}}},
		"append counts first":        {`{"okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}, "append": true, "appendAction": "ADD_IF_ABSENT"}]}}`, Answer{Request: Edits{{"x-user", "alice", Append}}}},
		"append if exists or add":    {`{"okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}, "appendAction": "APPEND_IF_EXISTS_OR_ADD"}]}}`, Answer{Request: Edits{{"x-user", "alice", Set}}}},
		"add if absent":              {`{"okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}, "appendAction": "ADD_IF_ABSENT"}]}}`, Answer{Request: Edits{{"x-user", "alice", AddIfAbsent}}}},
		"overwrite if exists or add": {`{"okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}, "appendAction": "OVERWRITE_IF_EXISTS_OR_ADD"}]}}`, Answer{Request: Edits{{"x-user", "alice", Set}}}},
		"overwrite if exists":        {`{"okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}, "appendAction": "OVERWRITE_IF_EXISTS"}]}}`, Answer{Request: Edits{{"x-user", "alice", SetIfExists}}}},
		"an empty value":             {`{"okResponse": {"headers": [{"header": {"key": "x-user"}}]}}`, Answer{Request: Edits{{"x-user", "", Set}}}},
		"a raw value":                {`{"okResponse": {"headers": [{"header": {"key": "x-user", "rawValue": "YWxpY2U="}}]}}`, Answer{Request: Edits{{"x-user", "alice", Set}}}},
		"a binary value":             {`{"okResponse": {"headers": [{"header": {"key": "x-b-bin", "value": "AAE"}}]}}`, Answer{Request: Edits{{"x-b-bin", "\x00\x01", Set}}}},
		"binary values":              {`{"okResponse": {"headers": [{"header": {"key": "x-b-bin", "value": "AAE=, /w"}}]}}`, Answer{Request: Edits{{"x-b-bin", "\x00\x01", Set}, {"x-b-bin", "\xff", Append}}}},
		"removed last":               {`{"okResponse": {"headersToRemove": ["Authorization", "cookie"], "headers": [{"header": {"key": "x-user", "value": "alice"}}]}}`, Answer{Request: Edits{{"x-user", "alice", Set}, {"authorization", "", Remove}, {"cookie", "", Remove}}}},
		"several for the client": {
			`{"okResponse": {"responseHeadersToAdd": [{"header": {"key": "x-a", "value": "1"}}, {"header": {"key": "X-A", "value": "2"}}, {"header": {"key": "x-b", "value": "1"}},
				{"header": {"key": "x-b", "value": "2"}, "append": false}, {"header": {"key": "x-b", "value": "3"}, "appendAction": "OVERWRITE_IF_EXISTS_OR_ADD"}]}}`,
			Answer{Response: Edits{{"x-a", "1", Set}, {"x-a", "2", Append}, {"x-b", "1", Set}, {"x-b", "2", Set}, {"x-b", "3", Set}}},
		},
		"for the client":             {`{"okResponse": {"responseHeadersToAdd": [{"header": {"key": "x-quota", "value": "7"}, "append": true}]}}`, Answer{Response: Edits{{"x-quota", "7", Append}}}},
		"a backend":                  {`{"dynamicMetadata": {"culvert": {"backend": "blue"}, "others": {"backend": "green"}, "backend": "red"}}`, Answer{Backend: "blue"}},
		"a subject":                  {`{"okResponse": {}, "dynamicMetadata": {"culvert": {"backend": "blue", "subject": "alice"}}}`, Answer{Backend: "blue", Subject: "alice"}},
		"the deprecated field":       {`{"okResponse": {"dynamicMetadata": {"culvert": {"backend": "blue"}}}, "dynamicMetadata": {"culvert": {"backend": "green"}}}`, Answer{Backend: "blue"}},
		"a body that looks like one": {`{"status": {"message": "fine"}}`, Answer{}},
	} {
		if got, err := checked(t, c.response); err != nil || !same(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

func TestCheckDenials(t *testing.T) {
	const refusedText, credentialText = deniedText, unauthenticText
	for name, c := range map[string]struct {
		response string
		kind     Kind
		code     codes.Code
		message  string
		header   metadata.MD
	}{
		"a code":                       {`{"status": {"code": 7}}`, Denied, codes.PermissionDenied, refusedText, nil},
		"unauthenticated":              {`{"status": {"code": 16}}`, Unauthenticated, codes.Unauthenticated, credentialText, nil},
		"another code":                 {`{"status": {"code": 8, "message": "too many calls"}}`, Denied, codes.ResourceExhausted, "too many calls", nil},
		"an unknown code":              {`{"status": {"code": 17}}`, Denied, codes.PermissionDenied, refusedText, nil},
		"a negative code":              {`{"status": {"code": -1}}`, Denied, codes.PermissionDenied, refusedText, nil},
		"an ok_response":               {`{"status": {"code": 7}, "okResponse": {"headers": [{"header": {"key": "x-user", "value": "alice"}}]}}`, Denied, codes.PermissionDenied, refusedText, nil},
		"the body comes first":         {`{"status": {"code": 7, "message": "second"}, "deniedResponse": {"status": {"code": "Forbidden"}, "body": "first\r\n"}}`, Denied, codes.PermissionDenied, "first", nil},
		"401 with PERMISSION_DENIED":   {`{"status": {"code": 7}, "deniedResponse": {"status": {"code": "Unauthorized"}}}`, Unauthenticated, codes.Unauthenticated, credentialText, nil},
		"401 with another code":        {`{"status": {"code": 9}, "deniedResponse": {"status": {"code": "Unauthorized"}}}`, Denied, codes.FailedPrecondition, refusedText, nil},
		"an HTTP status that isn't it": {`{"status": {"code": 7}, "deniedResponse": {"status": {"code": "OK"}}}`, Denied, codes.PermissionDenied, refusedText, nil},
		"a body with a credential":     {`{"status": {"code": 16}, "deniedResponse": {"body": "bad token abcdefghijkl.mnopqrstuvwx"}}`, Unauthenticated, codes.Unauthenticated, credentialText, nil},
		"a body without an end":        {`{"status": {"code": 7, "message": "` + strings.Repeat("\u00e9", 4000) + `"}}`, Denied, codes.PermissionDenied, strings.Repeat("\u00e9", 511), nil},
		"several challenges": {
			`{"status": {"code": 16}, "deniedResponse": {"headers": [{"header": {"key": "WWW-Authenticate", "value": "Bearer"}},
				{"header": {"key": "www-authenticate", "value": "Basic"}, "append": false}]}}`, Unauthenticated, codes.Unauthenticated, credentialText,
			metadata.MD{"www-authenticate": {"Bearer", "Basic"}},
		},
		"headers, the bad ones left out": {
			`{"status": {"code": 7}, "deniedResponse": {"headers": [
				{"header": {"key": "WWW-Authenticate", "value": "Bearer"}}, {"header": {"key": "x-b-bin", "value": "AAE"}},
				{"header": {"key": "x-c", "value": "1"}}, {"header": {"key": "x-c", "value": "2"}, "append": true},
				{"header": {"key": "content-type", "value": "text/plain"}}, {"header": {"key": "x bad", "value": "1"}}, {"header": {"key": "x-d", "value": "a\r\nb"}},
				{"header": {"key": "x-token", "value": "abcdefghijkl"}}, {"header": {"key": "x-f", "value": "1"}, "appendAction": 9}]}}`, Denied, codes.PermissionDenied, refusedText,
			metadata.MD{"www-authenticate": {"Bearer"}, "x-b-bin": {"\x00\x01"}, "x-c": {"1", "2"}},
		},
	} {
		_, err := checked(t, c.response)
		r := asRefusal(t, err)
		if r.Kind != c.kind || r.Code != c.code || r.Message != c.message || !reflect.DeepEqual(r.Header, c.header) {
			t.Errorf("%s: got %+v, want %+v", name, r, c)
		}
		says := c.message
		if says == refusedText || says == credentialText {
			says = "" // these are culvert's words
		}
		if cause := r.Error(); strings.Contains(cause, "abcdefghijkl") || !strings.Contains(cause, "the status ") || !strings.HasSuffix(cause, says[:min(len(says), 500)]) && len(says) < maxCauseBytes || len(cause) > 700 {
			t.Errorf("%s: the cause is %q", name, cause)
		}
	}
}

// option makes a HeaderValueOption.
func headerOption(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, RawValue: []byte(value)}}
}

func TestCheckAnswersThatAreUnusable(t *testing.T) {
	many := &authv3.OkHttpResponse{}
	for range maxEdits + 1 {
		many.Headers = append(many.Headers, headerOption("x-a", "1"))
	}
	manyRemoved := &authv3.OkHttpResponse{HeadersToRemove: make([]string, maxEdits+1)}
	for i := range manyRemoved.HeadersToRemove {
		manyRemoved.HeadersToRemove[i] = "x-a"
	}
	ok := func(headers ...*corev3.HeaderValueOption) *authv3.CheckResponse {
		return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: headers}}}
	}
	okOf := func(r *authv3.OkHttpResponse) *authv3.CheckResponse {
		return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: r}}
	}
	dynamic := func(json string) *authv3.CheckResponse {
		r := &authv3.CheckResponse{}
		if err := protojson.Unmarshal([]byte(`{"dynamicMetadata": {"culvert": `+json+`}}`), r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, c := range map[string]struct {
		response *authv3.CheckResponse
		want     string // in the cause
	}{
		"ok and denied":            {&authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{Body: "no"}}}, "the status OK, and a denied_response"},
		"ok and error":             {&authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{}}}, "the status OK, and an error_response"},
		"a pseudo-header":          {ok(headerOption(":authority", "evil")), `":authority", which can't name metadata`},
		"grpc's own":               {ok(headerOption("Grpc-Timeout", "1S")), `"Grpc-Timeout", which is reserved`},
		"hop by hop":               {ok(headerOption("connection", "close")), "reserved"},
		"content-type":             {ok(headerOption("content-type", "text/plain")), "reserved"},
		"culvert's own":            {ok(headerOption("X-Culvert-Subject", "root")), "reserved"},
		"culvert's own, imitated":  {ok(headerOption("x_forwarded_for", "10.0.0.1")), "reserved"},
		"reserved among others":    {ok(headerOption("x-a", "1"), headerOption("te", "x")), "reserved"},
		"no name":                  {ok(headerOption("", "1")), "can't name metadata"},
		"no header":                {ok(&corev3.HeaderValueOption{}), "can't name metadata"},
		"a blank in a name":        {ok(headerOption("x a", "1")), "can't name metadata"},
		"a Kelvin sign":            {ok(headerOption("x-\u212a", "1")), "can't name metadata"},
		"a line end":               {ok(headerOption("x-a", "1\r\nx-admin: yes")), `for "x-a" a value that has other bytes`},
		"UTF-8":                    {ok(headerOption("x-a", "caf\u00e9")), "has other bytes"},
		"a NUL":                    {ok(headerOption("x-a", "\x00")), "has other bytes"},
		"not base64":               {ok(headerOption("x-a-bin", "!")), "isn't base64"},
		"too many binary parts":    {ok(headerOption("x-a-bin", strings.Repeat(",", 100))), "too many parts"},
		"two values":               {ok(&corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: "x-a", Value: "1", RawValue: []byte("2")}}), "both a value and a raw_value"},
		"an unknown action":        {ok(&corev3.HeaderValueOption{AppendAction: 4, Header: &corev3.HeaderValue{Key: "x-a"}}), "unknown append_action 4"},
		"too many":                 {okOf(many), "more than 64 changes"},
		"too many removals":        {okOf(manyRemoved), "more than 64 changes"},
		"too large":                {ok(headerOption("x-a", strings.Repeat("a", maxEditBytes))), "more than 16384 bytes"},
		"a large name":             {ok(headerOption(strings.Repeat("a", maxEditBytes), "")), "more than 16384 bytes"},
		"larger than a message":    {ok(headerOption("x-a", strings.Repeat("a", ask.MaxResponseBytes))), "larger than max"},
		"removes a reserved name":  {okOf(&authv3.OkHttpResponse{HeadersToRemove: []string{"Host"}}), `in headers_to_remove the name "Host", which is reserved`},
		"removes a pseudo-header":  {okOf(&authv3.OkHttpResponse{HeadersToRemove: []string{":path"}}), "can't name metadata"},
		"reserved to the client":   {okOf(&authv3.OkHttpResponse{ResponseHeadersToAdd: []*corev3.HeaderValueOption{headerOption("grpc-status", "0")}}), "in response_headers_to_add"},
		"query parameters":         {okOf(&authv3.OkHttpResponse{QueryParametersToRemove: []string{"a"}}), "query parameters"},
		"culvert is no object":     {dynamic(`"blue"`), "isn't an object"},
		"a misspelt key":           {dynamic(`{"backends": "blue"}`), `"backends": only backend and subject`},
		"a backend that is a list": {dynamic(`{"backend": ["blue"]}`), "isn't a string"},
		"an empty backend":         {dynamic(`{"backend": ""}`), "a backend that is empty"},
		"blanks around a backend":  {dynamic(`{"backend": " blue"}`), "has blanks around"},
		"a long backend":           {dynamic(`{"backend": "` + strings.Repeat("a", 129) + `"}`), "over the limit of 128"},
		"a line end in a subject":  {dynamic(`{"subject": "a\n"}`), "has other bytes"},
		"a long subject":           {dynamic(`{"subject": "` + strings.Repeat("a", 257) + `"}`), "over the limit of 256"},
		"the token as a subject":   {dynamic(`{"subject": "abcdefghijkl"}`), "repeats the call's credential"},
		"the deprecated field, odd": {func() *authv3.CheckResponse {
			r := dynamic(`{"x": ""}`)
			return okOf(&authv3.OkHttpResponse{DynamicMetadata: r.GetDynamicMetadata()}) //nolint:staticcheck // deprecated
		}(), "only backend and subject"},
	} {
		answer, err := answered(t, c.response)
		if err == nil {
			t.Errorf("%s: got %+v, want a refusal", name, answer)
			continue
		}
		r := asRefusal(t, err)
		if r.Kind != Unavailable || r.Code != codes.Unavailable || r.Message != unavailableText || !strings.Contains(r.Error(), c.want) {
			t.Errorf("%s: got %+v, want a cause with %q", name, r, c.want)
		}
		for _, inside := range []string{"evil", "x-admin", "abcdefghijkl"} {
			if strings.Contains(r.Error(), inside) {
				t.Errorf("%s: the cause %q has a value in it", name, r.Error())
			}
		}
	}
}

// TestCheckErrorResponseIsNoJudgement: a service says with it that it couldn't judge.
func TestCheckErrorResponseIsNoJudgement(t *testing.T) {
	answer, err := checked(t, `{"status": {"code": 13}, "errorResponse": {"body": "database down"}}`)
	if err != nil || answer.Open == nil || !strings.Contains(answer.Open.Error(), "database down") {
		t.Errorf("with fail-open: got %+v, %v", answer, err)
	}
}
