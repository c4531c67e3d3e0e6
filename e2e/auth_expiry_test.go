package e2e

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A followed stream has replies to one request.
type followed struct {
	via  wire.Transport
	id   string
	next func() *told // nil: another reply came; otherwise how the stream ended
}

// follow begins a stream whose second reply waits for Control.Release. It ends with the test.
func follow(t *testing.T, via wire.Transport, address, token string) followed {
	t.Helper()
	f := followed{via: via, id: newID(t)}
	header := wire.Metadata(f.id, probe.Script{Replies: 2, HoldAfter: 1})
	header["authorization"] = []string{"Bearer " + token}
	if via == viaConnect {
		f.next = followByConnect(t, address, header)
		return f
	}
	c, err := dial(t, via, address).Post(t.Context(), wire.ServerStream, header, wire.Request(0, 0))
	if err != nil {
		t.Fatalf("%s: %v", via, err)
	}
	t.Cleanup(c.Close)
	f.next = func() *told {
		switch _, err := c.Recv(); {
		case err == nil:
			return nil
		case !errors.Is(err, io.EOF):
			t.Fatalf("%s: %v", via, err)
		}
		s := c.Status()
		return &told{code: s.Code, reason: s.Reason(), message: s.Message}
	}
	return f
}

func followByConnect(t *testing.T, address string, header http.Header) (next func() *told) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	client := &http.Client{Transport: new(http.Transport)}
	request := connect.NewRequest(&e2epb.Request{})
	maps.Copy(request.Header(), canonical(header))
	replies, err := connect.NewClient[e2epb.Request, e2epb.Reply](client, "http://"+address+wire.ServerStream).CallServerStream(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = replies.Close() // it may have ended
		client.CloseIdleConnections()
	})
	return func() *told {
		if replies.Receive() {
			return nil
		}
		if replies.Err() == nil {
			return new(told)
		}
		to := toldByConnect(t, replies.Err())
		return &to
	}
}

// TestStreamsEndWithTheirTokens, by each protocol, and not before. With token_expiry ignore they
// continue.
func TestStreamsEndWithTheirTokens(t *testing.T) {
	t.Parallel()
	b, i := startBackend(t, backendOptions{}), newTokenIssuer(t)
	config := func(more string) string {
		return `auth:
  issuers: [{name: staff, issuer: e2e, keys_file: ` + i.file + `, audiences: [probe], skew: 1ms}]
` + more
	}
	closes := startCulvert(t, b.address, culvertOptions{config: config("")})
	ignores := startCulvert(t, b.address, culvertOptions{config: config("  token_expiry: ignore\n")})
	// begin begins all streams, unless the machine needs longer for that than the token lives.
	begin := func(expires time.Time) (ending, going []followed, late bool) {
		token := i.tokenUntil(t, "alice", "read", expires)
		for _, via := range clientProtocols {
			ending, going = append(ending, follow(t, via, closes.address, token)), append(going, follow(t, via, ignores.address, token))
		}
		for _, streams := range [][]followed{ending, going} {
			for _, s := range streams {
				end := s.next()
				switch {
				case end == nil:
				case end.code == codes.Unauthenticated && !time.Now().Before(expires):
					return nil, nil, true
				default:
					t.Fatalf("%s: before the token expires: %+v", s.via, *end)
				}
			}
		}
		return ending, going, false
	}
	lives := 4 * time.Second
	var expires time.Time
	var ending, going []followed
	for late := true; late; lives *= 2 {
		expires = time.Now().Add(lives).Truncate(time.Second)
		ending, going, late = begin(expires)
	}
	for _, s := range ending {
		end := s.next()
		if end == nil || end.code != codes.Unauthenticated || end.reason != "TOKEN_EXPIRED" {
			t.Errorf("%s: the stream ends with %+v", s.via, end)
		}
		if after := time.Since(expires); after < 0 || after > cutIsSeen {
			t.Errorf("%s: the stream ends %v after its token", s.via, after)
		}
		b.record(t, s.id, probe.Cancelled, patience)
	}
	for _, s := range going {
		if err := b.control.Release(t.Context(), s.id); err != nil {
			t.Fatal(err)
		}
		if end := s.next(); end != nil {
			t.Errorf("%s: the stream that ignores its token ends with %+v", s.via, *end)
			continue
		}
		if end := s.next(); end == nil || end.code != codes.OK {
			t.Errorf("%s: the stream that ignores its token ends with %+v", s.via, end)
		}
	}
}
