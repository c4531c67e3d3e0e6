package path

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// The metadata by which the bridge tells the service of a call. Clients can't send it:
// package headers drops every name that begins so, and the bridge sets all three.
const (
	peerKey   = "culvert-path-peer"
	doctorKey = "culvert-path-doctor"
	reportKey = "culvert-path-report-bin"
)

// Metadata returns what the service has to know of a call: the client's address, whether the
// doctor is on, and for Report the facts, else nil.
func Metadata(peer string, doctor bool, facts *Facts) metadata.MD {
	md := metadata.MD{peerKey: {peer}, doctorKey: {""}, reportKey: {""}}
	if doctor {
		md.Set(doctorKey, "on")
	}
	if facts != nil {
		md.Set(reportKey, facts.message(time.Now()))
	}
	return md
}

// Facts are what culvert sees of a request.
type Facts struct {
	Version   string // of culvert
	Transport string // as in logs
	HTTP      string // the version of HTTP that the client's connection speaks: "HTTP/1.1"

	TLS          *tls.ConnectionState // nil: the connection is plaintext here
	Certificates [][]byte             // in DER: one of them was shown to the client; nil: unknown

	Header http.Header
}

// mostNames bounds the names of header fields in a report.
const mostNames = 256

// counted are the fields that proxies add to. A report has the number of their elements, and
// no value: those may be addresses of the inside.
var counted = []string{"Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto"}

// message returns the reply of Report, a google.protobuf.Struct.
func (f *Facts) message(now time.Time) string {
	names := make([]string, 0, len(f.Header))
	for name := range f.Header {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	proxies := make(map[string]*structpb.Value)
	for _, name := range counted {
		if values := f.Header[name]; len(values) > 0 {
			proxies[strings.ToLower(name)] = structpb.NewNumberValue(float64(strings.Count(strings.Join(values, ","), ",") + 1))
		}
	}
	fields := map[string]*structpb.Value{
		"version":   structpb.NewStringValue(f.Version),
		"time":      structpb.NewStringValue(now.UTC().Format(time.RFC3339)),
		"transport": structpb.NewStringValue(f.Transport),
		"http":      structpb.NewStringValue(f.HTTP),
		"headers":   list(names[:min(len(names), mostNames)]),
		"proxies":   object(proxies),
	}
	if f.TLS != nil {
		fields["tls"] = f.ofTLS()
	}
	message, err := proto.MarshalOptions{Deterministic: true}.Marshal(&structpb.Struct{Fields: fields})
	if err != nil {
		panic("BUG: a report isn't UTF-8: " + err.Error()) // names of fields are tokens (RFC 9110 §5.1)
	}
	return string(message)
}

// ofTLS returns the facts of the connection's TLS.
func (f *Facts) ofTLS() *structpb.Value {
	fields := map[string]*structpb.Value{
		"version": structpb.NewStringValue(tls.VersionName(f.TLS.Version)),
		"alpn":    structpb.NewStringValue(f.TLS.NegotiatedProtocol),
	}
	if len(f.Certificates) > 0 {
		sums := make([]string, len(f.Certificates))
		for i, leaf := range f.Certificates {
			sum := sha256.Sum256(leaf)
			sums[i] = hex.EncodeToString(sum[:])
		}
		fields["certificate_sha256"] = list(sums)
	}
	return object(fields)
}

func object(fields map[string]*structpb.Value) *structpb.Value {
	return structpb.NewStructValue(&structpb.Struct{Fields: fields})
}

func list(texts []string) *structpb.Value {
	values := make([]*structpb.Value, len(texts))
	for i, text := range texts {
		values[i] = structpb.NewStringValue(text)
	}
	return structpb.NewListValue(&structpb.ListValue{Values: values})
}
