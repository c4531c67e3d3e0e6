package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

// ofCheck returns the verdict in a CheckResponse. Its status decides, as in Envoy. A response
// that contradicts its status is unusable, where Envoy would believe the status: a service
// that builds a denial and forgets the status permits nothing.
func (n names) ofCheck(response *authv3.CheckResponse, hidden secrets) verdict {
	code := response.GetStatus().GetCode()
	if e := response.GetErrorResponse(); e != nil && code != 0 {
		return verdict{refusal: unanswered(fmt.Errorf("the authorization service answered with an error_response: %s", cause(e.GetBody(), hidden)))}
	}
	if code != 0 {
		return verdict{refusal: n.deniedByCheck(response, hidden)}
	}
	answer, err := n.allowedByCheck(response, hidden)
	if err != nil {
		return verdict{refusal: unusable(fmt.Errorf("the authorization service answered with %w", err))}
	}
	return verdict{answer: answer}
}

// allowedByCheck returns the answer in a CheckResponse with the status OK.
func (n names) allowedByCheck(response *authv3.CheckResponse, hidden secrets) (a Answer, err error) {
	switch {
	case response.GetDeniedResponse() != nil:
		return a, errors.New("the status OK, and a denied_response")
	case response.GetErrorResponse() != nil:
		return a, errors.New("the status OK, and an error_response")
	}
	ok := response.GetOkResponse()
	if len(ok.GetQueryParametersToSet())+len(ok.GetQueryParametersToRemove()) > 0 {
		return a, errors.New("query parameters to change, which a gRPC call doesn't have")
	}
	var d draft
	a.Request = slices.Clone(n.own)
	for _, h := range ok.GetHeaders() {
		if err := d.option(&a.Request, n.request, h); err != nil {
			return Answer{}, err
		}
	}
	// After the others, as in Envoy: a name that is in both lists is removed.
	for _, name := range ok.GetHeadersToRemove() {
		if err := d.add(&a.Request, n.request, name, "", Remove); err != nil {
			return Answer{}, fmt.Errorf("in headers_to_remove %w", err)
		}
	}
	for _, h := range ok.GetResponseHeadersToAdd() {
		if err := d.option(&a.Response, n.response, further(h, a.Response)); err != nil {
			return Answer{}, fmt.Errorf("in response_headers_to_add %w", err)
		}
	}
	dynamic := response.GetDynamicMetadata()
	if inner := ok.GetDynamicMetadata(); inner != nil { //nolint:staticcheck // deprecated, and overrides the other as long as it exists
		dynamic = inner
	}
	if err := a.choose(dynamic, hidden); err != nil {
		return Answer{}, err
	}
	return a, nil
}

// choose takes culvert's own part of dynamic metadata:
//
//	{"culvert": {"backend": "blue", "subject": "alice"}}
//
// Other parts are for others. An unknown key beside these may be a misspelt backend.
func (a *Answer) choose(dynamic *structpb.Struct, hidden secrets) error {
	part, there := dynamic.GetFields()[contextName]
	if !there {
		return nil
	}
	own := part.GetStructValue()
	if own == nil {
		return errors.New("dynamic_metadata whose culvert isn't an object")
	}
	for key, value := range own.GetFields() {
		text, is := value.GetKind().(*structpb.Value_StringValue)
		if !is {
			return fmt.Errorf("dynamic_metadata whose culvert.%.64q isn't a string", key)
		}
		var err error
		switch key {
		case "backend":
			a.Backend, err = text.StringValue, word("backend", text.StringValue, maxBackend, hidden)
		case "subject":
			a.Subject, err = text.StringValue, word("subject", text.StringValue, maxSubject, hidden)
		default:
			return fmt.Errorf("dynamic_metadata whose culvert has %.64q: only backend and subject are known", key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// option adds a HeaderValueOption.
func (d *draft) option(edits *Edits, reserved func(string) bool, h *corev3.HeaderValueOption) error {
	value, action, err := option(h)
	if err != nil {
		return fmt.Errorf("%w for %.64q", err, h.GetHeader().GetKey())
	}
	return d.add(edits, reserved, h.GetHeader().GetKey(), value, action)
}

// option returns the value and the action of a HeaderValueOption.
//
// A service that sets neither append nor append_action sends the same bytes as one that asks
// for APPEND_IF_EXISTS_OR_ADD, the first of the actions. Both set the value. The comment of
// OkHttpResponse.headers has this default, and appending by default to what a client sent
// would let clients put their value in front of the service's. A service that wants to append
// says append.
func option(h *corev3.HeaderValueOption) (value string, action Action, err error) {
	value = h.GetHeader().GetValue()
	if raw := h.GetHeader().GetRawValue(); len(raw) > 0 {
		if value != "" {
			return "", 0, errors.New("both a value and a raw_value")
		}
		value = string(raw)
	}
	if flag := h.GetAppend(); flag != nil { //nolint:staticcheck // deprecated, and what most services set
		if flag.GetValue() {
			return value, Append, nil
		}
		return value, Set, nil
	}
	switch h.GetAppendAction() {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		return value, Set, nil
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		return value, AddIfAbsent, nil
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		return value, SetIfExists, nil
	default:
		return "", 0, fmt.Errorf("the unknown append_action %d", h.GetAppendAction())
	}
}

// further returns what to do with a value for the client behind others of the same answer. Envoy
// adds one without an action to those: OPA's plugin sends a list, such as that of set-cookie, so.
// Only the first replaces the backend's values.
func further(h *corev3.HeaderValueOption, before Edits) *corev3.HeaderValueOption {
	name := ask.Lower(h.GetHeader().GetKey())
	if h.GetAppend() != nil || h.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD || //nolint:staticcheck // as in option
		!slices.ContainsFunc(before, func(e Edit) bool { return e.Name == name }) {
		return h
	}
	return &corev3.HeaderValueOption{Header: h.GetHeader(), Append: wrapperspb.Bool(true)} //nolint:staticcheck // as in option
}

// deniedByCheck returns the refusal in a CheckResponse with another status than OK. The call
// is refused whatever else is in it.
func (n names) deniedByCheck(response *authv3.CheckResponse, hidden secrets) *Refusal {
	denied := response.GetDeniedResponse()
	code := deniedCode
	said := response.GetStatus().GetCode()
	switch {
	case said == int32(codes.PermissionDenied) && denied.GetStatus().GetCode() == 401:
		// OPA's plugin for Envoy sends this code with every denial, and Envoy tells the HTTP
		// status to gRPC clients. UNAUTHENTICATED makes them get a new token.
		code = codes.Unauthenticated
	case said > 0 && said <= int32(codes.Unauthenticated):
		code = codes.Code(said)
	}
	r := refused(code)
	text := cmp.Or(plain(denied.GetBody(), maxMessageBytes, hidden), plain(response.GetStatus().GetMessage(), maxMessageBytes, hidden))
	r.Message = cmp.Or(text, r.Message)
	var header refusedHeader
	for _, h := range denied.GetHeaders() {
		if value, action, err := option(h); err == nil {
			if action == Set { // no backend has values to replace, and Envoy keeps all of the service's
				action = Append
			}
			header.add(n.response, hidden, h.GetHeader().GetKey(), value, action)
		}
	}
	r.Header = header.md
	r.Cause = fmt.Errorf("the authorization service answered with the status %d (%v)%s", said, codes.Code(said), saying(text, hidden))
	return r
}

// refused returns the refusal of a service that decided, without a cause yet.
func refused(code codes.Code) *Refusal {
	if code == codes.Unauthenticated {
		return &Refusal{Kind: Unauthenticated, Code: code, Message: unauthenticText}
	}
	return &Refusal{Kind: Denied, Code: code, Message: deniedText}
}
