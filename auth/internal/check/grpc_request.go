package check

import (
	"context"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

// contextName is culvert's own name in metadata_context and in dynamic_metadata.
const contextName = "culvert"

func (s *grpcService) question(r *Request) question {
	request := checkRequest(r, s.names)
	hidden := secretsOf(r.Metadata, s.secrets)
	return func(ctx context.Context) verdict {
		response, err := s.asks.Check(ctx, request)
		if err != nil {
			return verdict{refusal: checkFailed(err, hidden)}
		}
		return s.rules.ofCheck(response, hidden)
	}
}

// checkFailed returns the refusal for a Check that has no response. With other codes than these
// two, the service or grpc-go had a response that isn't one.
func checkFailed(err error, hidden secrets) *Refusal {
	st := status.Convert(err)
	e := &ask.RPCError{Method: "Check", Code: st.Code(), Text: cause(st.Message(), hidden)}
	if st.Code() == codes.Unavailable || st.Code() == codes.DeadlineExceeded {
		return unanswered(e)
	}
	return unusable(e)
}

// checkRequest describes r as Envoy describes a gRPC request.
func checkRequest(r *Request, names []string) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Id: r.ID, Method: "POST", Path: r.Method, Host: r.Authority, Scheme: r.Scheme,
		Size:     -1, // unknown
		Protocol: "HTTP/2",
		Headers:  headers(r, names),
	}
	attributes := &authv3.AttributeContext{
		Source:      &authv3.AttributeContext_Peer{Address: address(r.Peer)},
		Destination: &authv3.AttributeContext_Peer{Address: address(r.Local)},
		Request:     &authv3.AttributeContext_Request{Http: http},
		MetadataContext: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			contextName: {Fields: map[string]*structpb.Value{"route": structpb.NewStringValue(r.Route)}},
		}},
	}
	if !r.Start.IsZero() {
		attributes.Request.Time = timestamppb.New(r.Start)
	}
	if len(r.Principals) > 0 {
		attributes.Source.Principal = r.Principals[0]
	}
	if r.SNI != "" {
		attributes.TlsSession = &authv3.AttributeContext_TLSSession{Sni: r.SNI}
	}
	return &authv3.CheckRequest{Attributes: attributes}
}

// pseudo are the fields of a gRPC request that aren't its metadata. Policies for Envoy look
// for them among the headers.
func (r *Request) pseudo() [6][2]string {
	return [...][2]string{
		{":authority", r.Authority},
		{":method", "POST"},
		{":path", r.Method},
		{":scheme", r.Scheme},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	}
}

// headers returns the request's header with the values of a name joined by commas.
func headers(r *Request, names []string) map[string]string {
	h := make(map[string]string, len(r.Metadata)+6)
	var last string // the name whose values are collected
	var values []string
	for name, value := range r.fields(names) { // in the order of the names
		if name != last && len(values) > 0 {
			h[last] = joined(last, values)
			values = values[:0]
		}
		last, values = name, append(values, value)
	}
	if len(values) > 0 {
		h[last] = joined(last, values)
	}
	for _, f := range r.pseudo() {
		h[f[0]] = f[1]
	}
	return h
}

// address returns a socket address, or nil if it isn't known.
func address(a netip.AddrPort) *corev3.Address {
	if !a.IsValid() {
		return nil
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().Unmap().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}
