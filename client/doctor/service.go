package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// serviceFacts are what the service's half sees of a request.
type serviceFacts struct {
	version      string
	http         string
	tls          bool     // TLS reaches the service
	certificates []string // SHA-256 in hexadecimal, of those that it may have shown
	hops         int      // proxies that have named themselves
}

func (x *examination) serviceReport(ctx context.Context, c *call) Finding {
	if err := errors.Join(c.send(nil), c.closeSend()); err != nil {
		return finding(err)
	}
	message, err := c.receive(ctx)
	if err != nil {
		f := finding(err)
		if f.Cause == causeUnimplemented {
			f.Evidence = "the service has no half for this: culvert serve --doctor"
		}
		return f
	}
	facts, err := parseFacts(message)
	if err != nil {
		return found(failed, "its report can't be read")
	}
	x.mu.Lock()
	x.service = facts
	x.mu.Unlock()
	return found(works, "%s", facts)
}

func (x *examination) facts() *serviceFacts {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.service
}

func (f *serviceFacts) String() string {
	text := "culvert " + printable(f.version) + " sees " + printable(f.http)
	if f.tls {
		text += " over TLS"
	} else {
		text += " in plaintext"
	}
	if f.hops > 0 {
		text += ", through " + strconv.Itoa(f.hops) + " proxies (Via)"
	}
	return text
}

func parseFacts(message []byte) (*serviceFacts, error) {
	var s structpb.Struct
	if err := proto.Unmarshal(message, &s); err != nil {
		return nil, fmt.Errorf("a report: %w", err)
	}
	of := s.GetFields()
	f := &serviceFacts{version: of["version"].GetStringValue(), http: of["http"].GetStringValue()}
	f.hops = int(of["proxies"].GetStructValue().GetFields()["via"].GetNumberValue())
	if t := of["tls"].GetStructValue(); t != nil {
		f.tls = true
		for _, v := range t.GetFields()["certificate_sha256"].GetListValue().GetValues() {
			f.certificates = append(f.certificates, v.GetStringValue())
		}
	}
	return f, nil
}
