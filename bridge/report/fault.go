package report

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// ErrorDomain is the domain of the ErrorInfo that every status of culvert's own
// carries. The statuses of an upstream never get one.
const ErrorDomain = "culvert"

// A Fault is why culvert itself refuses a request or a connection, or ends a call: one
// value from the place that noticed it to the client, the log and the metrics.
type Fault struct {
	Reason Reason
	Key    string        // the setting that decided, such as a limit that was reached; empty: none
	Text   string        // what happened, for the client
	Remedy string        // what the client should do; empty: the remedy of the reason's row
	Whole  bool          // Text says what to do, too: there is no other remedy
	Hint   string        // what the operator should do; empty: nothing, so the log has no line but the call's
	Detail string        // the origin, host or method that was refused, for the log; text of the peer
	Cause  error         // for the log only
	Code   codes.Code    // codes.OK: the code of the reason
	Sent   string        // for UNAVAILABLE: SentNo, SentMaybe, or empty for SentNo
	Retry  time.Duration // when to retry; 0: not given

	// HTTP is the status of an answer that isn't a call's, and Header its fields: names and
	// values in turn. 0: the status of the reason.
	HTTP   int
	Header []string

	Likely     bool   // a request that isn't a call was probably meant as one: every web server gets others
	ReportOnly bool   // the rule is only tried out: nothing is refused
	Mute       bool   // the client can't be reached any more
	Ends       string // why the call's connection ends with it; empty: it doesn't, or for another reason

	// WriteBy is until when a message that is being written may take. Zero, or a time that
	// is too soon: culvert waits as long as for other faults.
	WriteBy time.Time

	said bool // by In: the remedy stands, also if it is empty
}

// Whether a call has reached the backend.
const (
	SentNo    = "no"    // surely not: another attempt can't run the method twice
	SentMaybe = "maybe" // its header was written
)

// New returns a fault with the reason, and a text for the client.
func New(reason Reason, text string) *Fault {
	return &Fault{Reason: reason, Text: text}
}

// ClientGone is the text of a client that has gone away.
const ClientGone = "the client went away"

// Newf is New with a format.
func Newf(reason Reason, format string, args ...any) *Fault {
	return New(reason, fmt.Sprintf(format, args...))
}

// AnyMoment is the retry delay if there may be room at any time: when another
// client's call or connection ends.
const AnyMoment = time.Second

// OverLimit returns the fault of a limit that was reached, with its key and the retry
// delay (0: not given).
func OverLimit(key string, retry time.Duration, text string) *Fault {
	return &Fault{Reason: ReasonLimitExceeded, Text: text + " (" + Named(key) + ")", Remedy: "try again later, or raise " + Named(key), Key: key, Retry: retry}
}

// UnlessRaised notes the limit that was reached, and makes the remedy name it: a
// listener's, a route's or a method's own, where the reason's row names the general one.
func (f *Fault) UnlessRaised(key string) *Fault {
	f.Key = key
	if key == KeyDoctor { // it is no number
		f.Remedy = "send smaller messages, or set " + Named(key) + " for messages of up to 64 KiB"
		return f
	}
	instead, _, _ := strings.Cut(f.Row().Remedy, " or raise ")
	f.Remedy = instead + " or raise " + Named(key)
	return f
}

// Because notes the cause of the fault, for the log. A fault doesn't unwrap to it:
// the end of a connection is not the client's half-close.
func (f *Fault) Because(err error) *Fault {
	f.Cause = err
	return f
}

// Ending notes that the call's connection ends with it, and why.
func (f *Fault) Ending(why string) *Fault {
	f.Ends = why
	return f
}

func (f *Fault) Error() string {
	switch {
	case f.Cause == nil:
		return f.Text
	case strings.HasPrefix(f.Cause.Error(), f.Text): // since the log has the cause alone
		return f.Cause.Error()
	}
	return f.Text + ": " + f.Cause.Error()
}

// Row returns the fault's row of the table.
func (f *Fault) Row() ReasonInfo { return f.Reason.Row() }

// Limit returns the key of the limit that was reached, or "": other keys are those of
// rules.
func (f *Fault) Limit() string {
	switch f.Reason {
	case ReasonUnauthenticated, ReasonPermissionDenied, ReasonAuthUnavailable, ReasonTokenExpired,
		ReasonNoRoute, ReasonOriginDenied, ReasonBadRequest:
		return ""
	}
	return f.Key
}

// HTTPStatus returns the HTTP status of an answer that isn't a call's. A limit is the
// client's own, as those without a key are, or everybody's: then another instance may have
// room. RFC 6585 §4.
func (f *Fault) HTTPStatus() int {
	switch {
	case f.HTTP != 0:
		return f.HTTP
	case f.Reason == ReasonLimitExceeded && f.Key != "" && !strings.HasPrefix(f.Key, KeyAddressLimits) && !strings.HasPrefix(f.Key, KeyIdentityLimits):
		return http.StatusServiceUnavailable
	}
	return f.Row().HTTP
}

// RetrySeconds is the value of a Retry-After header, or "" if there is none.
func (f *Fault) RetrySeconds() string {
	if f.Retry <= 0 {
		return ""
	}
	return strconv.Itoa(int((f.Retry + time.Second - 1) / time.Second))
}

// StatusCode returns the code of the client's status.
func (f *Fault) StatusCode() codes.Code { return cmp.Or(f.Code, f.Row().Code) }

// Unseen reports whether the backend has surely not seen the call, so that another
// attempt can't run it twice. Clients read it from the status, see Status.
func (f *Fault) Unseen() bool {
	return f.Sent == SentNo || f.Sent == "" && f.StatusCode() == codes.Unavailable
}

// withoutLog removes from a remedy where the cause is.
var withoutLog = strings.NewReplacer(
	"; the log has the cause under this call id", "",
	"; the log has its answer under this call id", "",
	"see the log: it has the cause under this call id; or ", "",
	"see the log: it has the cause under this call id", "",
	" and the log", "",
)

// remedy returns what the client should do, unless the text says it.
func (f *Fault) remedy() string {
	if f.Whole {
		return f.Remedy
	}
	return cmp.Or(f.Remedy, f.Row().Remedy)
}

// Status returns the fault as the client's status: the problem, the remedy, and the
// call's id, under which the log has more.
func (f *Fault) Status(callID string, detailed bool) *status.Status {
	code := f.StatusCode()
	text := f.Text
	if detailed && f.Cause != nil {
		text = f.Error()
	}
	remedy := f.Remedy
	if !f.said {
		remedy = Words(nil).Say(f.remedy())
	}
	if detailed && f.Cause != nil {
		remedy = withoutLog.Replace(remedy) // the text has what is in it
	}
	if callID != "" {
		remedy = strings.Replace(remedy, "this call id", "call id "+callID, 1)
	}
	if remedy != "" {
		remedy = " (" + remedy + ")"
	}
	st := status.New(code, Words(nil).Say(text)+remedy)
	info := &errdetails.ErrorInfo{Reason: string(f.Reason), Domain: ErrorDomain, Metadata: map[string]string{}}
	if callID != "" {
		info.Metadata["call_id"] = callID
	}
	if code == codes.Unavailable {
		info.Metadata["sent"] = cmp.Or(f.Sent, SentNo)
	}
	if limit := f.Limit(); limit != "" {
		info.Metadata["limit"] = limit
	}
	details := []protoadapt.MessageV1{info}
	if f.Retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.Retry)})
	}
	with, err := st.WithDetails(details...)
	if err != nil { // only an OK status refuses details
		return st
	}
	return with
}
