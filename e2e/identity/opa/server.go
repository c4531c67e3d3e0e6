// Package opa has a service that judges calls by OPA's library and answers Envoy's Check, as
// OPA's plugin for Envoy does, for tests.
package opa

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// A Server is an authorization service that judges by a policy.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	Asked atomic.Int64

	query rego.PreparedEvalQuery
}

// A decision is what the policy says of a call. Its names are those of OPA's plugin for Envoy.
type decision struct {
	Allowed         bool              `json:"allowed"`
	HTTPStatus      int32             `json:"http_status"`
	Body            string            `json:"body"`
	Headers         map[string]string `json:"headers"` // of the request, or of the response if it isn't allowed
	HeadersToRemove []string          `json:"request_headers_to_remove"`
	ResponseHeaders map[string]string `json:"response_headers_to_add"`
	DynamicMetadata map[string]any    `json:"dynamic_metadata"`
}

// Start runs the service until the test's end. It judges by all rules of a package of the policy,
// which may use the data.
func Start(t *testing.T, pkg, policy string, data map[string]any) (s *Server, target string) {
	t.Helper()
	query, err := rego.New(rego.Query("data."+pkg), rego.Module("policy.rego", policy), rego.Store(inmem.NewFromObject(data))).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s = &Server{query: query}
	g := grpc.NewServer()
	authv3.RegisterAuthorizationServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(ln) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, ln.Addr().String()
}

// Check implements the service.
func (s *Server) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	s.Asked.Add(1)
	d, err := s.decide(ctx, r)
	if err != nil {
		return nil, err
	}
	dynamic, err := structpb.NewStruct(d.DynamicMetadata)
	if err != nil {
		return nil, err
	}
	response := &authv3.CheckResponse{DynamicMetadata: dynamic}
	if d.Allowed {
		response.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: headers(d.Headers), HeadersToRemove: d.HeadersToRemove, ResponseHeadersToAdd: headers(d.ResponseHeaders),
		}}
		return response, nil
	}
	response.Status = &rpcstatus.Status{Code: int32(codes.PermissionDenied)}
	response.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(cmp.Or(d.HTTPStatus, 403))}, Body: d.Body, Headers: headers(d.Headers),
	}}
	return response, nil
}

// decide evaluates the policy with the request, in protobuf's JSON, as its input.
func (s *Server) decide(ctx context.Context, r *authv3.CheckRequest) (d decision, err error) {
	text, err := protojson.Marshal(r)
	if err != nil {
		return d, err
	}
	var input map[string]any
	if err := json.Unmarshal(text, &input); err != nil {
		return d, err
	}
	result, err := s.query.Eval(ctx, rego.EvalInput(input))
	if err != nil {
		return d, err
	}
	if len(result) != 1 || len(result[0].Expressions) != 1 {
		return d, fmt.Errorf("%d results", len(result))
	}
	text, err = json.Marshal(result[0].Expressions[0].Value)
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(text, &d)
}

func headers(pairs map[string]string) (o []*corev3.HeaderValueOption) {
	for name, value := range pairs {
		o = append(o, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}})
	}
	return o
}
