package telemetry

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // for UseCompressor
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A sender sends a request once.
type sender interface {
	// once returns the receiver's answer. If an error says that another attempt may succeed, it
	// is a *laterError.
	once(ctx context.Context, request []byte) (answer []byte, err error)
	setHeaders(all map[string]string) // of the next requests
	close()
}

// A laterError is why a request may succeed later.
type laterError struct {
	error
	after time.Duration // that the receiver asks for; zero: it asks for none
}

func (e *laterError) Unwrap() error { return e.error }

// The pauses between attempts.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 5 * time.Second
)

// retrying is a requestReceiver that sends a request again while its context lasts.
type retrying struct{ sender }

func (r retrying) send(ctx context.Context, request []byte) (rejected int64, err error) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		answer, err := r.once(ctx, request)
		if err == nil {
			rejected, why := rejectedIn(answer)
			if rejected > 0 { // else a text is advice, and the receiver has taken all
				err = fmt.Errorf("the receiver rejected %d: %s", rejected, why)
			}
			return rejected, err
		}
		later, ok := errors.AsType[*laterError](err)
		if !ok {
			return 0, err
		}
		select {
		case <-time.After(max(pause, later.after)):
		case <-ctx.Done():
			return 0, err // it says more than the context
		}
	}
}

// silence is after what time a connection gets a ping. One whose receiver has vanished would keep
// all requests for as long as TCP sends them again.
const silence = 10 * time.Second

// answerBytes is the most that is read of an answer.
const answerBytes = 64 << 10

// An httpSender sends OTLP over HTTP.
// https://opentelemetry.io/docs/specs/otlp/#otlphttp
type httpSender struct {
	client  *http.Client
	url     string
	header  atomic.Pointer[http.Header]
	version string
	gzip    bool
}

func newHTTPSender(to *Receiver) *httpSender {
	s := &httpSender{
		client: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, TLSClientConfig: to.TLS, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: answerBytes,
				HTTP2: &http.HTTP2Config{SendPingTimeout: silence, PingTimeout: maxPause},
			},
			// A redirect could take the headers to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		url: to.Endpoint, version: to.Version, gzip: to.Gzip,
	}
	s.setHeaders(to.Headers)
	return s
}

func (s *httpSender) setHeaders(all map[string]string) {
	header := http.Header{}
	for name, value := range all {
		header.Set(name, value)
	}
	header.Set("Content-Type", "application/x-protobuf")
	header.Set("User-Agent", "culvert/"+s.version)
	if s.gzip {
		header.Set("Content-Encoding", "gzip")
	}
	s.header.Store(&header)
}

func (s *httpSender) once(ctx context.Context, request []byte) ([]byte, error) {
	body := request
	if s.gzip {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(request) // a Buffer takes everything
		_ = w.Close()           // as above
		body = b.Bytes()
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = s.header.Load().Clone()
	res, err := s.client.Do(r)
	if err != nil {
		return nil, &laterError{error: err}
	}
	defer func() { _ = res.Body.Close() }() // read, or of no use
	answer, err := io.ReadAll(io.LimitReader(res.Body, answerBytes))
	switch {
	case res.StatusCode/100 == 2 && err != nil:
		return nil, nil // it has taken the request
	case res.StatusCode/100 == 2:
		return answer, nil
	}
	err = fmt.Errorf("%s answered %s", s.url, res.Status)
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return nil, &laterError{err, retryAfter(res.Header)}
	}
	return nil, err
}

// retryAfter returns the pause in a Retry-After in seconds, or zero.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

func (s *httpSender) close() { s.client.CloseIdleConnections() }

// A grpcSender sends OTLP over gRPC.
// https://opentelemetry.io/docs/specs/otlp/#otlpgrpc
type grpcSender struct {
	conn    *grpc.ClientConn
	headers atomic.Pointer[metadata.MD]
	method  string
	options []grpc.CallOption
}

func newGRPCSender(to *Receiver, u *url.URL, method string) (*grpcSender, error) {
	host := u.Host
	secure := insecure.NewCredentials()
	if u.Scheme == "https" {
		secure = credentials.NewTLS(to.TLS)
	}
	if u.Port() == "" {
		host += map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	}
	conn, err := grpc.NewClient(
		"dns:///"+host, grpc.WithTransportCredentials(secure), grpc.WithUserAgent("culvert/"+to.Version), grpc.WithDisableServiceConfig(), grpc.WithMaxHeaderListSize(answerBytes),
		// A receiver that comes back gets requests soon: grpc-go waits up to 2 min by default.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: maxPause}, MinConnectTimeout: maxPause}),
		// Without a request, nothing is sent.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: silence, Timeout: min(maxPause, max(to.Timeout/2, time.Second))}),
	)
	if err != nil {
		return nil, err
	}
	s := &grpcSender{conn: conn, method: method, options: []grpc.CallOption{grpc.ForceCodec(bytesCodec{}), grpc.MaxCallRecvMsgSize(answerBytes)}}
	if to.Gzip {
		s.options = append(s.options, grpc.UseCompressor("gzip"))
	}
	s.setHeaders(to.Headers)
	return s, nil
}

func (s *grpcSender) setHeaders(all map[string]string) {
	md := metadata.New(all)
	s.headers.Store(&md)
}

func (s *grpcSender) once(ctx context.Context, request []byte) (answer []byte, err error) {
	err = s.conn.Invoke(metadata.NewOutgoingContext(ctx, *s.headers.Load()), s.method, &request, &answer, s.options...)
	if err == nil {
		return answer, nil
	}
	st := status.Convert(err)
	after := time.Duration(0)
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			after = info.GetRetryDelay().AsDuration()
		}
	}
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.Unavailable, codes.DataLoss:
		return nil, &laterError{err, after}
	case codes.ResourceExhausted:
		if after > 0 {
			return nil, &laterError{err, after}
		}
	}
	return nil, err
}

func (s *grpcSender) close() { _ = s.conn.Close() } // nothing can be done about it

// A bytesCodec passes messages that are written already.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "" }

func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil } //nolint:forcetypeassert // only once calls it

func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data) //nolint:forcetypeassert // as above
	return nil
}
