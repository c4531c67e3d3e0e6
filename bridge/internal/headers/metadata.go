package headers

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// Asked are lower-case names of metadata that the configuration asks for. Their values
// always cross: those that gRPC can't carry cross encoded, as codec.EncodeValue does.
type Asked map[string]bool

// With returns the names and others. It changes none of those that are there.
func (a Asked) With(names []string) Asked {
	if len(names) == 0 {
		return a
	}
	to := make(Asked, len(a)+len(names))
	maps.Copy(to, a)
	for _, name := range names {
		to[strings.ToLower(name)] = true
	}
	return to
}

// Request makes a call's metadata from the headers of its request, with room for so many names
// more. Names listed in Connection belong to that connection, so they don't cross. dropped are
// the names of values that gRPC can't carry, once for each.
func Request(h http.Header, trusted, cookies bool, limit report.SizeLimit, asked Asked, room int) (md metadata.MD, dropped []string, err error) {
	hop := connectionNames(h)
	size := 0
	kept := make(map[string][]string, len(h))
	for name, values := range h {
		name = lower(name)
		size += FieldsBytes(name, values)
		switch toUpstream.of(name) {
		case Drop:
			continue
		case Vouched:
			if !trusted {
				continue
			}
		case Cookie:
			if !cookies {
				continue
			}
		case Pass:
		}
		if hop.has(name) {
			continue
		}
		if others := kept[name]; others != nil { // names that differ in case only
			values = append(slices.Clip(others), values...)
		}
		kept[name] = values
	}
	if size > limit.Bytes {
		return nil, nil, TooLarge("request", size, limit)
	}
	md, dropped, err = sane(kept, asked, room)
	if len(asked) > 0 && err == nil { // encoded values are larger
		if size := Size(md); size > limit.Bytes {
			return nil, nil, TooLarge("request", size, limit)
		}
	}
	return md, dropped, err
}

// Block makes metadata from the header block in a WebSocket's first message, as Request does.
// The block can't set headers that only the upgrade request can.
func Block(block map[string][]string, asked Asked) (md metadata.MD, dropped []string, err error) {
	kept := make(map[string][]string, len(block))
	for name, values := range block {
		if Crosses(name) {
			kept[name] = values
		}
	}
	return sane(kept, asked, 0)
}

// sane makes metadata from fields whose names are in lower case. It decodes binary values and
// leaves out what grpc-go would refuse the whole call for: names that it can't send, and ASCII
// values with other characters (tab, UTF-8) unless they are asked for. CR, LF and NUL can only
// be an attack.
func sane(h map[string][]string, asked Asked, room int) (md metadata.MD, dropped []string, err error) {
	md = make(metadata.MD, len(h)+room)
	for name, values := range h {
		if !codec.ValidName(name) {
			continue
		}
		if strings.HasSuffix(name, "-bin") {
			if md[name], err = codec.DecodeBinary(name, values); err != nil {
				return nil, nil, report.New(report.ReasonBadRequest, "the metadata can't be read: "+err.Error())
			}
			continue
		}
		kept := values[:0:0]
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				return nil, nil, report.Newf(report.ReasonBadRequest, "the metadata %q contains a line end or NUL", name)
			}
			switch {
			case asked[name]:
				kept = append(kept, codec.EncodeValue(v))
			case codec.ValidValue(v):
				kept = append(kept, v)
			default:
				dropped = append(dropped, name)
			}
		}
		if len(kept) > 0 {
			md[name] = slices.Clip(kept)
		}
	}
	return md, dropped, nil
}

// Response removes from an upstream's header or trailer what doesn't reach the client, and
// returns it. md is the caller's own, as grpc-go gives it.
func Response(md metadata.MD, setCookies bool) metadata.MD {
	for name := range md {
		switch toDownstream.of(name) {
		case Pass:
		case Cookie:
			if !setCookies {
				delete(md, name)
			}
		case Drop, Vouched:
			delete(md, name)
		}
	}
	return md
}

// connectionNames returns the names that Connection lists, in lower case. Most requests
// list one or none, so the map is only made for more.
func connectionNames(h http.Header) hopNames {
	var hop hopNames
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if hop.first == "" {
				hop.first = name
				continue
			}
			if hop.others == nil {
				hop.others = make(map[string]bool)
			}
			hop.others[name] = true
		}
	}
	return hop
}

// hopNames are names of one connection's own.
type hopNames struct {
	first  string
	others map[string]bool // nil: there are none
}

func (n hopNames) has(name string) bool { return name == n.first || n.others[name] }

// Size returns the size of metadata as HTTP/2 counts it.
func Size(md metadata.MD) int {
	n := 0
	for name, values := range md {
		n += FieldsBytes(name, values)
	}
	return n
}

// FieldsBytes returns the size of a name's fields as HTTP/2 counts it.
func FieldsBytes(name string, values []string) (n int) {
	for _, v := range values {
		n += codec.FieldBytes(name, v)
	}
	return n
}

// TooLarge returns the fault of metadata over its limit. what is "request" or "response".
func TooLarge(what string, size int, limit report.SizeLimit) *report.Fault {
	return report.Newf(report.ReasonMetadataTooLarge, "the %s metadata of %d bytes is over the limit of %d (%s)", what, size, limit.Bytes, report.Named(limit.Key)).UnlessRaised(limit.Key)
}
