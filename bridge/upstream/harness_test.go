package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// patience is how long an event may take that ought to come at once: two cores
// under the race detector are slow now and then.
const patience = 15 * time.Second

// bytesCodec hands messages through as plain bytes, for the ends of a call.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// startBackend serves every method of a real grpc-go server with the handler,
// on loopback, and returns its address.
func startBackend(t testing.TB, handle func(ss grpc.ServerStream) error, opts ...grpc.ServerOption) string {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	serveBackend(t, ln, handle, opts...)
	return ln.Addr().String()
}

// serveBackend does the same on a listener, and returns what stops it.
func serveBackend(t testing.TB, ln net.Listener, handle func(ss grpc.ServerStream) error, opts ...grpc.ServerOption) (stop func()) {
	t.Helper()
	opts = append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(bytesCodec{}),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return handle(ss) }),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.WaitForHandlers(true),
	}, opts...)
	gs := grpc.NewServer(opts...)
	var serving sync.WaitGroup
	serving.Go(func() { _ = gs.Serve(ln) }) // the error is that of being stopped
	stop = sync.OnceFunc(func() {
		gs.Stop()
		serving.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // it may be closed already
	return ln
}

// echo answers each message with itself.
func echo(ss grpc.ServerStream) error {
	for {
		var m []byte
		if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.SendMsg(m); err != nil {
			return err
		}
	}
}

// hold reads nothing and waits for the call's end.
func hold(ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return status.FromContextError(ss.Context().Err()).Err()
}

func wantUsed(t testing.TB, b *memory.Budget, want int64) {
	t.Helper()
	if got := b.Used(); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
}

const testMethod = "/test.Service/Method"

// within is the test's context with a bound on what ought to come at once.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await waits for an event that ought to come at once.
func await[T any](t testing.TB, what string, event <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-event:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
	return v
}

// elapse lets a bubble's time pass, and what it sets off happen.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func framed(flag byte, payload []byte) []byte {
	return append(codec.FrameHeader{Flags: flag, Length: uint32(len(payload))}.AppendTo(nil), payload...)
}

func gzipped(payload []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(payload) // to memory
	_ = z.Close()
	return b.Bytes()
}

// pattern is n bytes that no other n bytes are mistaken for.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i*7)
	}
	return b
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0xff
	return b
}

func errorInfo(t testing.TB, st *status.Status) *errdetails.ErrorInfo {
	t.Helper()
	if details := st.Details(); len(details) == 1 {
		if info, ok := details[0].(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	t.Errorf("the status %v has the details %v, want one ErrorInfo", st, st.Details())
	return &errdetails.ErrorInfo{}
}

// An authority makes certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	pair := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t testing.TB, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// server returns a certificate for loopback and the names.
func (a *authority) server(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func (a *authority) client(t testing.TB) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "client"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// Why a call's context ends.
var (
	errFinished = errors.New("the call has ended")
	errDeadline = report.New(report.ReasonDeadlineExceeded, "the deadline passed")
)

// A verdict is how a call ended, as bridge would tell it.
type verdict struct {
	status *status.Status
	origin string
	reason report.Reason
	cause  string
}

// judge returns the verdict on an error of a stream. nil is the backend's OK.
func judge(err error) verdict {
	var own Status
	var f *report.Fault
	switch {
	case err == nil:
		return verdict{status: status.New(codes.OK, ""), origin: report.OriginUpstream}
	case errors.As(err, &own):
		return verdict{status: own.Status, origin: report.OriginUpstream}
	case errors.As(err, &f):
	case errors.Is(err, context.DeadlineExceeded):
		f = errDeadline
	default:
		f = report.New(report.ReasonInternal, "internal error").Because(err)
	}
	v := verdict{status: f.Status("id", false), origin: report.OriginCulvert, reason: f.Reason}
	if f.Cause != nil {
		v.cause = f.Cause.Error()
	}
	return v
}
