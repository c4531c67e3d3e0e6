package bridge

import (
	"context"
	"slices"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// An Inquiry asks a backend questions without a Server, over connections of its own. Its
// methods may be called concurrently.
type Inquiry struct {
	upstream *upstream.Upstream
	words    report.Words
}

// inquiryBytes bounds what the answers of a backend may hold.
const inquiryBytes = 1 << 30

// Inquire returns the Inquiry of a backend. The limits of Config bound its answers. It
// fails if the backend's settings are wrong; Close ends it. words are those of its errors, as in Config.
func Inquire(b Backend, limits Limits, words report.Words) (*Inquiry, error) {
	limits = withDefaults(limits)
	messages := report.SizeLimit{Bytes: limits.MessageBytes, Key: report.KeyMessageBytes}
	u, err := upstream.New(b, messages, limits.HeaderBytes, memory.New(inquiryBytes, 0), nil)
	if err != nil {
		return nil, err
	}
	return &Inquiry{u, words}, nil
}

// Close closes the connections.
func (i *Inquiry) Close() error { return i.upstream.Close() }

// Services asks the backend for the names of its services, by server reflection, sorted.
// It waits for a backend that isn't up yet until the context ends. The error is
// ErrNoReflection if the backend has none.
func (i *Inquiry) Services(ctx context.Context) ([]string, error) {
	names, err := i.upstream.Services(ctx)
	slices.Sort(names)
	return names, i.words.Err(err)
}

// A MethodInfo is what descriptors say about a method.
type MethodInfo struct {
	ClientStreams, ServerStreams bool
	Request, Reply               string // full names of the message types
}

// Method returns what the backend's descriptors say about a method,
// "/package.Service/Method": those of Backend.Descriptors, or by server reflection. It
// waits like Services. The error wraps ErrUnknownMethod if there is no such method.
func (i *Inquiry) Method(ctx context.Context, path string) (MethodInfo, error) {
	m, err := i.upstream.Described(ctx, path)
	if err != nil {
		return MethodInfo{}, i.words.Err(err)
	}
	return MethodInfo{m.ClientStreams, m.ServerStreams, m.Request.Name(), m.Reply.Name()}, nil
}

// ErrUnknownMethod reports that descriptors don't have a method.
var ErrUnknownMethod = descriptor.ErrUnknown
