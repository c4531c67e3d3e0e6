package codec

import (
	"encoding/json"
	"errors"
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

var errNoConnectError = errors.New("the body isn't an error of the Connect protocol")

// ParseConnectError parses the JSON body of a unary call's error, as ConnectError writes it. A
// code that Connect doesn't know is UNKNOWN. The error means that the body is something else,
// such as the page of a proxy.
// https://connectrpc.com/docs/protocol#unary-response
func ParseConnectError(body []byte) (*status.Status, error) {
	var e connectError
	if json.Unmarshal(body, &e) != nil || e.Code == "" {
		return nil, errNoConnectError
	}
	return e.status()
}

// ParseConnectEnd parses the payload of a stream's last envelope, as ConnectEnd writes it.
// https://connectrpc.com/docs/protocol#error-end-stream
func ParseConnectEnd(payload []byte) (*status.Status, metadata.MD, error) {
	var end struct {
		Error    json.RawMessage     `json:"error"`
		Metadata map[string][]string `json:"metadata"`
	}
	if err := json.Unmarshal(payload, &end); err != nil {
		return nil, nil, errors.New("the stream's end isn't JSON of the Connect protocol")
	}
	md, err := DecodeMetadata(end.Metadata)
	if err != nil {
		return nil, nil, err
	}
	if end.Error == nil {
		return status.New(codes.OK, ""), md, nil
	}
	st, err := ParseConnectError(end.Error)
	return st, md, err
}

// status returns the error as a status. It is never OK.
func (e *connectError) status() (*status.Status, error) {
	p := &spb.Status{Code: int32(codes.Unknown), Message: e.Message}
	for code := codes.Canceled; code <= maxCode; code++ {
		if connectCodes[code].name == e.Code {
			p.Code = int32(code)
		}
	}
	var err error
	p.Details, err = parseDetails(e.Details)
	return status.FromProto(p), err
}

// typeURL is what a type's name gets in the details of a status.
const typeURL = "type.googleapis.com/"

// parseDetails returns the details before the first whose value isn't base64, and then an error.
func parseDetails(details []connectDetail) (all []*anypb.Any, err error) {
	for i, d := range details {
		value, err := decodeBase64(d.Value)
		if err != nil {
			return all, fmt.Errorf("the value of detail %d isn't base64", i+1)
		}
		all = append(all, &anypb.Any{TypeUrl: typeURL + d.Type, Value: []byte(value)})
	}
	return all, nil
}
