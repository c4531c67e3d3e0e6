package upstream

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

func detailsOf(t testing.TB, st *statuspb.Status) string {
	raw, err := proto.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawStdEncoding.EncodeToString(raw)
}

// TestReadableStatusPasses, whatever else grpc-go can't read in a header or a trailer. What
// is left out is logged by name.
func TestReadableStatusPasses(t *testing.T) {
	five := detailsOf(t, &statuspb.Status{Code: 5, Message: "gone"})
	for what, c := range map[string]struct {
		header  []string // after :status and content-type; nil: Trailers-Only
		trailer []string
		code    codes.Code
		message string
		want    metadata.MD // among header and trailer
		without []string    // names that neither has
		logged  string      // a name
	}{
		"joined values in a header":              {[]string{"x-a-bin", "AAEC,/w=="}, []string{"grpc-status", "0"}, codes.OK, "", metadata.MD{"x-a-bin": {"\x00\x01\x02", "\xff"}}, nil, ""},
		"joined values in a trailer":             {[]string{}, []string{"x-a-bin", "AAEC , /w", "grpc-status", "7", "grpc-message", "no"}, codes.PermissionDenied, "no", metadata.MD{"x-a-bin": {"\x00\x01\x02", "\xff"}}, nil, ""},
		"joined values in Trailers-Only":         {nil, []string{"x-a-bin", "AAEC,", "grpc-status", "7", "grpc-message", "no"}, codes.PermissionDenied, "no", metadata.MD{"x-a-bin": {"\x00\x01\x02", ""}}, nil, ""},
		"joined and single ones":                 {[]string{"x-a-bin", "AA", "x-a-bin", "AQ,Ag", "x-a-bin", "Aw"}, []string{"grpc-status", "0"}, codes.OK, "", metadata.MD{"x-a-bin": {"\x00", "\x01", "\x02", "\x03"}}, nil, ""},
		"a joined value that isn't base64":       {[]string{"x-a-bin", "AAEC,?,/w=="}, []string{"grpc-status", "0"}, codes.OK, "", metadata.MD{"x-a-bin": {"\x00\x01\x02", "\xff"}}, nil, "x-a-bin"},
		"a value that isn't base64, in a head":   {[]string{"x-a-bin", "!!!", "x-b", "1"}, []string{"grpc-status", "5", "grpc-message", "gone"}, codes.NotFound, "gone", metadata.MD{"x-b": {"1"}}, []string{"x-a-bin"}, "x-a-bin"},
		"a value that isn't base64, in a tail":   {[]string{}, []string{"x-a-bin", "A", "x-b", "1", "grpc-status", "0"}, codes.OK, "", metadata.MD{"x-b": {"1"}}, []string{"x-a-bin"}, "x-a-bin"},
		"the other alphabet":                     {[]string{"x-a-bin", "_-__"}, []string{"grpc-status", "0"}, codes.OK, "", nil, []string{"x-a-bin"}, "x-a-bin"},
		"misplaced padding":                      {[]string{"x-a-bin", "AA=A"}, []string{"grpc-status", "0"}, codes.OK, "", nil, []string{"x-a-bin"}, "x-a-bin"},
		"details that aren't base64":             {[]string{}, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", "not base64!"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"details before the status":              {[]string{}, []string{"grpc-status-details-bin", "?", "grpc-message", "gone", "grpc-status", "5"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"details that aren't base64, alone":      {nil, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", "%%%"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"details that aren't a status":           {[]string{}, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", "/////w"}, codes.NotFound, "gone", nil, nil, ""},
		"details of another code":                {[]string{}, []string{"grpc-status", "7", "grpc-message", "no", "grpc-status-details-bin", five}, codes.PermissionDenied, "no", nil, []string{detailsName}, detailsName},
		"details of OK":                          {nil, []string{"grpc-status", "7", "grpc-message", "no", "grpc-status-details-bin", ""}, codes.PermissionDenied, "no", nil, []string{detailsName}, detailsName},
		"details of an error with OK":            {[]string{}, []string{"grpc-status", "0", "grpc-status-details-bin", five}, codes.OK, "", nil, []string{detailsName}, detailsName},
		"details that came joined":               {[]string{}, []string{"grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", five + "," + five}, codes.NotFound, "gone", nil, nil, ""},
		"details without the message":            {[]string{}, []string{"grpc-status", "5", "grpc-message", "100%25 gone", "grpc-status-details-bin", detailsOf(t, &statuspb.Status{Code: 5})}, codes.NotFound, "100% gone", nil, nil, ""},
		"details in a header":                    {[]string{"grpc-status-details-bin", "?"}, []string{"grpc-status", "5", "grpc-message", "gone"}, codes.NotFound, "gone", nil, []string{detailsName}, detailsName},
		"a number with blanks":                   {[]string{}, []string{"grpc-status", " 5 ", "grpc-message", "gone"}, codes.NotFound, "gone", nil, nil, ""},
		"a number that came joined":              {[]string{}, []string{"grpc-status", "5, 5", "grpc-message", "gone"}, codes.NotFound, "gone", nil, nil, ""},
		"a content-type in upper case":           {[]string{"!content-type", "Application/gRPC+Proto"}, []string{"grpc-status", "5", "grpc-message", "gone"}, codes.NotFound, "gone", metadata.MD{"content-type": {"application/grpc+proto"}}, nil, ""},
		"a content-type with blanks":             {[]string{"!content-type", "application/grpc ; charset=utf-8"}, []string{"grpc-status", "0"}, codes.OK, "", nil, nil, ""},
		"a status without a content-type":        {nil, []string{":status", "200", "grpc-status", "8", "grpc-message", "quota"}, codes.ResourceExhausted, "quota", nil, nil, ""},
		"a status in a page's header":            {nil, []string{":status", "503", "content-type", "text/html", "grpc-status", "8", "grpc-message", "quota", "x-a", "1"}, codes.ResourceExhausted, "quota", metadata.MD{"x-a": {"1"}}, nil, ""},
		"a status before a page":                 {[]string{"!status", "502", "!content-type", "text/html", "grpc-status", "8", "grpc-message", "quota"}, []string{"x-z", "1"}, codes.ResourceExhausted, "quota", nil, []string{"x-z"}, ""},
		"all of it at once, over several frames": {[]string{"x-a-bin", "?", "x-b", strings.Repeat("b", 20_000)}, []string{"grpc-status", "5,5", "grpc-message", "gone", "grpc-status-details-bin", "?", "x-c-bin", "AA,AQ"}, codes.NotFound, "gone", metadata.MD{"x-b": {strings.Repeat("b", 20_000)}, "x-c-bin": {"\x00", "\x01"}}, []string{"x-a-bin", detailsName}, "x-a-bin"},
	} {
		t.Run(what, func(t *testing.T) {
			var log bytes.Buffer
			hasMessage := c.header != nil && !slices.Contains(c.header, "!status")
			b := report.Backend{Logger: slog.New(slog.NewTextHandler(&log, nil)), Target: startFrames(t, func(conn *frameConn, id uint32) {
				if c.header == nil {
					trailer := c.trailer
					if trailer[0] != ":status" {
						trailer = append([]string{":status", "200", "content-type", "application/grpc"}, trailer...)
					}
					conn.end(id, trailer...)
					return
				}
				head, rest := map[string]string{":status": "200", "content-type": "application/grpc"}, []string(nil)
				for pair := range slices.Chunk(c.header, 2) {
					switch pair[0] {
					case "!status":
						head[":status"] = pair[1]
					case "!content-type":
						head["content-type"] = pair[1]
					default:
						rest = append(rest, pair...)
					}
				}
				conn.headers(id, false, append([]string{":status", head[":status"], "content-type", head["content-type"]}, rest...)...)
				conn.data(id, false, framed(0, []byte("one")))
				conn.end(id, c.trailer...)
			}).address}
			u := upstreamTo(t, b)
			for range 2 { // the second answer comes over a connection with a change before it
				e := callUpstream(within(t, patience), t, u, nil)
				if e.origin != report.OriginUpstream || e.status.Code() != c.code || e.status.Message() != c.message {
					t.Errorf("ended with %v of %s (%s), want %v %q of the backend", e.status, e.origin, e.cause, c.code, c.message)
				}
				if hasMessage && (len(e.messages) != 1 || string(e.messages[0]) != "one") {
					t.Errorf("got the messages %q", e.messages)
				}
				md := metadata.Join(e.header, e.trailer)
				for name, want := range c.want {
					if !slices.Equal(md[name], want) {
						t.Errorf("%s is %q, want %q", name, md[name], want)
					}
				}
				for _, name := range c.without {
					if md[name] != nil {
						t.Errorf("%s is %q, want none", name, md[name])
					}
				}
			}
			if lines := strings.Count(log.String(), "level=WARN"); (lines == 1) != (c.logged != "") || !strings.Contains(log.String(), c.logged) {
				t.Errorf("want one line about %q, or none: %s", c.logged, &log)
			}
		})
	}
}

// TestUnreadableStatusIsAnError: what isn't mended stays culvert's own error.
func TestUnreadableStatusIsAnError(t *testing.T) {
	for _, status := range []string{"OK", "", "5, 7", "0,5", "5 5", "99999999999"} {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
			c.ok(id)
			c.end(id, "grpc-status", status, "x-a-bin", "?")
		}).address})
		if e := callUpstream(within(t, patience), t, u, nil); e.reason != report.ReasonUpstreamReset || e.status.Code() != codes.Unknown {
			t.Errorf("grpc-status %q: %v, %s", status, e.status, e.reason)
		}
	}
	u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", "200", "content-type", "text/html", "grpc-status", "0")
		c.data(id, true, []byte("<html>"))
	}).address})
	if e := callUpstream(within(t, patience), t, u, nil); e.reason != report.ReasonUpstreamNotGRPC {
		t.Errorf("a page with grpc-status 0: %v, %s", e.status, e.reason)
	}
}

// TestMadeUpEndIsTold: an answer that isn't gRPC and has a status ends with its header. The
// backend gets a reset, because it would send the rest.
func TestMadeUpEndIsTold(t *testing.T) {
	b := startFrames(t, func(c *frameConn, id uint32) {
		c.headers(id, false, ":status", "200", "content-type", "text/html", "grpc-status", "5")
		c.data(id, false, []byte("<html>"))
	})
	b.resets = make(chan uint32, 10)
	u := upstreamTo(t, report.Backend{Target: b.address})
	if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.NotFound || e.origin != report.OriginUpstream {
		t.Errorf("%v of %s, want NotFound of the backend", e.status, e.origin)
	}
	select {
	case id := <-b.resets:
		if id != 1 {
			t.Errorf("stream %d is reset, want 1", id)
		}
	case <-time.After(patience):
		t.Error("the backend's stream stays open")
	}
}

// TestHeaderInManyPieces: pieces of a byte cost no copy of what came before, whether the block
// is one frame or many.
func TestHeaderInManyPieces(t *testing.T) {
	const bytesOfBlock = 30 << 10
	var block bytes.Buffer
	_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("~", bytesOfBlock), Sensitive: true})
	for name, size := range map[string]int{"one frame": block.Len(), "frames of a byte": 1} {
		var in bytes.Buffer
		framer, rest := http2.NewFramer(&in, nil), block.Bytes()
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: rest[:size], EndHeaders: size == len(rest)})
		for rest = rest[size:]; len(rest) > 0; rest = rest[size:] {
			_ = framer.WriteContinuation(1, size == len(rest), rest[:size])
		}
		a := answers{left: func(string) {}, most: 128 << 10}
		p := make([]byte, 1<<10)
		from := bytes.NewReader(in.Bytes())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := a.read(p, func(p []byte) (int, error) { return from.Read(p[:1]) })
		runtime.ReadMemStats(&after)
		if n == 0 || err != nil || from.Len() > 0 {
			t.Errorf("%s: read %d bytes, %v, before %d others had come", name, n, err, from.Len())
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 20*uint64(in.Len()) {
			t.Errorf("%s: %d bytes took %d", name, in.Len(), took)
		}
	}
}

// TestLargeAnswersBesideAChange: a header that is too large ends its call alone, before and
// after a change on the connection, also one that only the split of its values makes large.
func TestLargeAnswersBesideAChange(t *testing.T) {
	n := 0
	u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		n++
		switch n {
		case 1, 3:
			c.ok(id, slices.Repeat([]string{"x-a", strings.Repeat("a", 100)}, 400)...)
		case 4:
			c.ok(id, "x-a-bin", strings.Repeat(",", 10_000))
		default:
			c.ok(id, "x-a-bin", "AA,AQ")
		}
		c.end(id, "grpc-status", "0")
	}).address})
	for i, want := range []codes.Code{codes.ResourceExhausted, codes.OK, codes.ResourceExhausted, codes.ResourceExhausted, codes.OK} {
		if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != want {
			t.Errorf("call %d: %v (%s), want %v", i+1, e.status, e.cause, want)
		}
	}
	if got := u.pool.readied.Load(); got != 1 {
		t.Errorf("%d connections, want 1", got)
	}
}

// blocks returns what a backend with an HPACK table sends: frames of all kinds, and blocks
// whose fields refer to earlier ones. odd ones need a change.
func blocks(odd bool) []byte {
	var out, block bytes.Buffer
	framer, enc := http2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	headers := func(id uint32, end bool, fields ...string) {
		block.Reset()
		for pair := range slices.Chunk(fields, 2) {
			_ = enc.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
		}
		b := block.Bytes()
		half := len(b) / 2
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:half], EndStream: end, PadLength: 3, Priority: http2.PriorityParam{Weight: 7}})
		_ = framer.WriteContinuation(id, false, nil)
		_ = framer.WriteContinuation(id, true, b[half:])
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	for id := uint32(1); id < 20; id += 2 {
		value := "AAEC"
		if odd && id%4 == 3 {
			value = "AAEC,/w,?"
		}
		headers(id, false, ":status", "200", "content-type", "application/grpc", "x-a-bin", value, "x-n", fmt.Sprint("n", id%6))
		_ = framer.WriteData(id, false, framed(0, pattern(50)))
		_ = framer.WritePing(true, [8]byte{1})
		headers(id, true, "grpc-status", fmt.Sprint(id%3), "grpc-message", "same", "x-a-bin", value)
	}
	return out.Bytes()
}

// mended returns what answers makes of in if it comes in pieces of these sizes.
func mended(in []byte, sizes ...int) ([]byte, error) {
	a := answers{left: func(string) {}, pong: func() {}, most: 8 << 10}
	var out []byte
	buffer, i := make([]byte, 64), 0
	for {
		n, err := a.read(buffer[:1+i%len(buffer)], func(p []byte) (int, error) {
			if len(in) == 0 {
				return 0, io.EOF
			}
			n := copy(p, in[:min(len(in), max(sizes[i%len(sizes)], 1))])
			in = in[n:]
			return n, nil
		})
		out = append(out, buffer[:n]...)
		if i++; err != nil {
			return out, err
		}
	}
}

// TestAnswersInPieces: what needs no change passes byte for byte, and a change is the same
// however the bytes come. All fields arrive that came, by HPACK's table too.
func TestAnswersInPieces(t *testing.T) {
	for _, odd := range []bool{false, true} {
		in := blocks(odd)
		whole, err := mended(in, len(in))
		if !errors.Is(err, io.EOF) || !odd && !bytes.Equal(whole, in) {
			t.Errorf("odd=%v: changed %d bytes to %d, %v", odd, len(in), len(whole), err)
		}
		for size := range 40 {
			if got, _ := mended(in, size+1, 7, size%5+1); !bytes.Equal(got, whole) {
				t.Fatalf("odd=%v: in pieces of %d it is another answer", odd, size+1)
			}
		}
		framer := http2.NewFramer(nil, bytes.NewReader(whole))
		framer.ReadMetaHeaders = hpack.NewDecoder(firstTableBytes, nil)
		var got []string
		for {
			f, err := framer.ReadFrame()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				text := fmt.Sprint(h.StreamID, h.StreamEnded())
				for _, field := range h.Fields {
					text += " " + field.Name + "=" + field.Value
				}
				got = append(got, text)
			}
		}
		var want []string
		for id := 1; id < 20; id += 2 {
			value := " x-a-bin=AAEC"
			if odd && id%4 == 3 {
				value += " x-a-bin=/w"
			}
			want = append(want, fmt.Sprint(id, false, " :status=200 content-type=application/grpc", value, " x-n=n", id%6),
				fmt.Sprint(id, true, " grpc-status=", id%3, " grpc-message=same", value))
		}
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "  ", " ")
		}
		if !slices.Equal(got, want) {
			t.Errorf("odd=%v: got\n%s\nwant\n%s", odd, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestKnownBlocks mean something else once HPACK's table has changed.
func TestKnownBlocks(t *testing.T) {
	block := func(fields ...string) []byte { // each gets the index 62, and moves the others up. RFC 7541 §6.2.1
		var b []byte
		for pair := range slices.Chunk(fields, 2) {
			b = append(append(b, 1<<6, byte(len(pair[0]))), pair[0]...)
			b = append(append(b, byte(len(pair[1]))), pair[1]...)
		}
		return b
	}
	known := []byte{1<<7 | 8, 1<<7 | 62, 1<<7 | 63} // :status 200, and the two latest
	var in bytes.Buffer
	framer := http2.NewFramer(&in, nil)
	write := func(block []byte) {
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}) // to memory
	}
	write(block("grpc-status", "5", "content-type", "application/grpc"))
	for range 3 {
		write(known)
	}
	write(block("grpc-status", "5", "content-type", "text/html"))
	same := in.Len()
	write(known) // now a page with a status
	out, err := mended(in.Bytes(), in.Len())
	if !errors.Is(err, io.EOF) || !bytes.Equal(out[:same], in.Bytes()[:same]) {
		t.Fatalf("blocks that need no change were changed: %q, %v", out, err)
	}
	if last := out[same:]; len(last) == 0 || !http2.Flags(last[4]).Has(http2.FlagHeadersEndStream) {
		t.Errorf("the page passed as %q, and its status ends nothing", last)
	}
}

// TestTablesOfHPACK: a backend may use the table that grpc-go's SETTINGS allow, and RFC 9113's
// without. grpc-go may use any that its own header blocks announce.
func TestTablesOfHPACK(t *testing.T) {
	const more = 2 * firstTableBytes
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	enc.SetMaxDynamicTableSizeLimit(more)
	enc.SetMaxDynamicTableSize(more)
	_ = enc.WriteField(hpack.HeaderField{Name: idHeader, Value: "one"}) // behind an update of the size
	header := func(w io.Writer) {
		_ = http2.NewFramer(w, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	}
	for _, c := range []struct {
		settings []http2.Setting
		passes   bool
	}{
		{nil, false},
		{[]http2.Setting{{ID: http2.SettingHeaderTableSize, Val: more - 1}}, false},
		{[]http2.Setting{{ID: http2.SettingHeaderTableSize, Val: more}}, true},
		{[]http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 0}, {ID: http2.SettingMaxFrameSize, Val: 1 << 20}, {ID: http2.SettingHeaderTableSize, Val: more}}, true},
	} {
		near, far := net.Pipe()
		a := memory.New(1<<20, 0)
		conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
		p := newPlace(nil, nil)
		expectNow(t, conn, p)
		var sent bytes.Buffer
		sent.WriteString(http2.ClientPreface)
		_ = http2.NewFramer(&sent, nil).WriteSettings(c.settings...) // to memory
		header(&sent)
		go func() {
			_, _ = io.ReadFull(far, make([]byte, sent.Len()))
			_ = http2.NewFramer(far, nil).WriteSettings()
			header(far)
		}()
		if _, err := conn.Write(bytes.Clone(sent.Bytes())); err != nil || !p.written.Load() {
			t.Errorf("%v: the request isn't read: %v", c.settings, err)
		}
		var got []byte
		var err error
		for n := 0; err == nil && !bytes.HasSuffix(got, block.Bytes()); {
			b := make([]byte, 1<<10)
			n, err = conn.Read(b)
			got = append(got, b[:n]...)
		}
		if (err == nil) != c.passes || err != nil && !errors.Is(err, errAnswerUnreadable) {
			t.Errorf("%v: %v; want that the answer passes: %v", c.settings, err, c.passes)
		}
		_ = conn.Close()
		_ = far.Close()
	}
}

// TestPongsAreLeftOut: grpc-go gets no answer to a PING that it hasn't sent, and all others.
func TestPongsAreLeftOut(t *testing.T) {
	var in, want bytes.Buffer
	_, _ = in.Write(silencePong) // to memory
	for _, to := range []*bytes.Buffer{&in, &want} {
		framer := http2.NewFramer(to, nil)
		_ = framer.WriteSettings()
		_ = framer.WritePing(true, [8]byte{'c', 'u', 'l'})
		_ = framer.WritePing(false, [8]byte(silencePing[frameHeaderBytes:])) // the backend's own
		_ = framer.WriteData(1, false, silencePong)
		if to == &in {
			_, _ = in.Write(slices.Concat(silencePong, silencePong))
		}
		_ = framer.WriteData(1, true, []byte("hello"))
	}
	_, _ = in.Write(silencePong)
	for size := range in.Len() {
		if got, err := mended(in.Bytes(), size+1, size%7+1); !bytes.Equal(got, want.Bytes()) || !errors.Is(err, io.EOF) {
			t.Errorf("in pieces of %d: %q, %v, want %q", size+1, got, err, want.Bytes())
		}
	}
	if got, _ := mended(silencePong[:10], 3); !bytes.Equal(got, silencePong[:10]) {
		t.Errorf("the beginning of an answer became %q", got)
	}
}

// FuzzAnswers: bytes that need no change pass as they are, and pieces make no difference.
func FuzzAnswers(f *testing.F) {
	f.Add(blocks(false), uint8(3))
	f.Add(blocks(true), uint8(200))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), uint8(1))
	f.Add([]byte{0, 0, 1, 1, 4, 0, 0, 0, 1, 0xff}, uint8(1))
	f.Add([]byte{0, 0, 1, 5, 4, 0, 0, 0, 1, 0xff}, uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, err := mended(in, len(in))
		pieces, err2 := mended(in, int(size), 1, 5)
		if !bytes.Equal(whole, pieces) || !errors.Is(err2, err) {
			t.Errorf("in one piece %x, %v; in several %x, %v", whole, err, pieces, err2)
		}
		if again, err := mended(whole, len(whole)); errors.Is(err, io.EOF) && !bytes.Equal(again, whole) && bytes.Equal(whole, in) {
			t.Errorf("%x is changed the second time, to %x", whole, again)
		}
	})
}
