package bridge

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// errorDomain is the domain of the ErrorInfo that every status of culvert's
// own carries, and no status of an upstream is given.
const errorDomain = "culvert"

// A fault is why culvert itself ends a call.
type fault struct {
	reason Reason
	code   codes.Code    // codes.OK: the reason's own
	text   string        // for the client
	remedy string        // empty: the row's
	sent   string        // for UNAVAILABLE: whether the call may have reached the backend, "no" or "maybe"
	cause  error         // for the log only
	limit  string        // the key of the limit that was reached
	retry  time.Duration // when to try again; 0: nothing is said
	mute   bool          // the client can't be told any more
	ends   string        // why the call's connection ends with it; empty: it doesn't, or not for that
}

func newFault(reason Reason, text string) *fault {
	return &fault{reason: reason, text: text}
}

func faultf(reason Reason, format string, args ...any) *fault {
	return newFault(reason, fmt.Sprintf(format, args...))
}

// overLimit is a limit that is reached, and when there may be room again.
func overLimit(key string, retry time.Duration, text string) *fault {
	return &fault{reason: ReasonLimitExceeded, text: text + " (" + key + ")", limit: key, retry: retry}
}

// unlessRaised has the remedy name the limit that was met: a listener's or a
// method's own, where the reason's row names that of all.
func (f *fault) unlessRaised(key string) *fault {
	instead, _, _ := strings.Cut(f.row().Remedy, " or raise ")
	f.remedy = instead + " or raise " + key
	return f
}

// because notes what lies behind the fault, for the log. A fault doesn't
// unwrap to it: a connection's end of file is not the client's half-close.
func (f *fault) because(err error) *fault {
	f.cause = err
	return f
}

// ending says that the call's connection ends with it, and why.
func (f *fault) ending(why string) *fault {
	f.ends = why
	return f
}

func (f *fault) Error() string {
	if f.cause != nil {
		return f.text + ": " + f.cause.Error()
	}
	return f.text
}

// row is the fault's line in the table.
func (f *fault) row() ReasonInfo { return reasonRows[f.reason] }

// status renders the fault for a client: what happened, what to do, and the
// call's id, under which the log has the rest.
func (f *fault) status(callID string, detailed bool) *status.Status {
	row := f.row()
	code := f.code
	if code == codes.OK {
		code = row.Code
	}
	text := f.text
	if detailed && f.cause != nil {
		text = f.Error()
	}
	remedy := f.remedy
	if remedy == "" {
		remedy = row.Remedy
	}
	if callID != "" {
		remedy = strings.Replace(remedy, "this call id", "call id "+callID, 1)
	}
	st := status.New(code, text+" ("+remedy+")")
	info := &errdetails.ErrorInfo{Reason: string(f.reason), Domain: errorDomain, Metadata: map[string]string{}}
	if callID != "" {
		info.Metadata["call_id"] = callID
	}
	if code == codes.Unavailable {
		info.Metadata["sent"] = "no"
		if f.sent != "" {
			info.Metadata["sent"] = f.sent
		}
	}
	if f.limit != "" {
		info.Metadata["limit"] = f.limit
	}
	details := []protoadapt.MessageV1{info}
	if f.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.retry)})
	}
	with, err := st.WithDetails(details...)
	if err != nil { // only an OK status refuses details
		return st
	}
	return with
}
