package call

import (
	"context"
	"encoding/base64"
	"encoding/json"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // the details that most statuses have
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// details returns the details of a status in JSON: by the descriptors, else their bytes in
// base64.
func (x *exchange) details(ctx context.Context, st *status.Status) []json.RawMessage {
	var all []json.RawMessage
	for _, d := range st.Proto().GetDetails() {
		all = append(all, x.detail(ctx, d))
	}
	return all
}

func (x *exchange) detail(ctx context.Context, d *anypb.Any) json.RawMessage {
	text, err := protojson.Marshal(d) // google.rpc's
	if err != nil && x.book != nil && x.book.set != nil {
		if of, ok := x.book.set.Message("google.protobuf.Any"); ok { // each set has protobuf's own types
			wire, _ := proto.Marshal(d) // it was read from the wire
			text, err = x.book.write(ctx, of, wire)
		}
	}
	if err != nil {
		text, _ = json.Marshal(map[string]string{ // strings always marshal
			"@type": d.GetTypeUrl(), "value": base64.StdEncoding.EncodeToString(d.GetValue()),
		})
	}
	text, _ = json.Marshal(json.RawMessage(text)) // without the blanks that protojson adds at random
	return text
}
