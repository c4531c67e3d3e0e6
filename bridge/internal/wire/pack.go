package wire

import (
	"io"
	"net/http"

	"google.golang.org/grpc/encoding"
	grpcgzip "google.golang.org/grpc/encoding/gzip" // without it a compressed reply is INTERNAL
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/packing"
)

// grpc-go has one level for the process. It must be set before the first message, by
// an init function. The init function of a program that embeds culvert runs after
// this one, and may set another level.
func init() {
	if err := grpcgzip.SetLevel(packing.Level); err != nil {
		panic("BUG: " + err.Error())
	}
	for _, name := range append(spellings(grpcgzip.Name), spellings(gzipOrEmpty)...) {
		if name != grpcgzip.Name {
			encoding.RegisterCompressor(&namesake{Compressor: encoding.GetCompressor(grpcgzip.Name), spelt: name})
		}
	}
}

// gzipOrEmpty is a name of gzip whose namesake decompresses. answers gives it to the
// replies that a backend compresses.
const gzipOrEmpty = "x-" + grpcgzip.Name

// A namesake is grpc-go's gzip under another spelling of its name: grpc-go looks a
// backend's coding up by its bytes, and the names of codings have no case. RFC 9110
// §8.4.1. It can't have gzip's own name, because grpcgzip.SetLevel, which an embedder may
// call, takes only grpc-go's.
type namesake struct {
	encoding.Compressor
	spelt string // until it is registered
}

// Name returns the spelling to grpc-go's registry, which asks for it first. After that
// it returns gzip's own name: grpc-go tells backends the names that it is told then, and
// answers a client with them.
func (n *namesake) Name() string {
	if name := n.spelt; name != "" {
		n.spelt = ""
		return name
	}
	return n.Compressor.Name()
}

// Decompress reads an empty message as it is: grpc-go's gzip reads one as broken.
func (n *namesake) Decompress(r io.Reader) (io.Reader, error) {
	if m, is := r.(*mem.Reader); is && m.Remaining() == 0 {
		return http.NoBody, nil
	}
	return n.Compressor.Decompress(r)
}

// spellings returns a name in all mixtures of upper and lower case.
func spellings(name string) []string {
	all := []string{""}
	for _, c := range []byte(name) {
		upper := c
		if 'a' <= c && c <= 'z' {
			upper -= 'a' - 'A'
		}
		var longer []string
		for _, begun := range all {
			if longer = append(longer, begun+string(c)); upper != c {
				longer = append(longer, begun+string(upper))
			}
		}
		all = longer
	}
	return all
}
