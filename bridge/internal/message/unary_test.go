package message

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

func newUnaryReader(body io.Reader, length int64, limit int, coding string) *Reader {
	m := newReader(body, limit, "")
	m.Frames = &Unary{Length: length, Coding: coding}
	return m
}

// lengths of a body: as it is, and unknown.
func lengths(body []byte) []int64 { return []int64{int64(len(body)), -1} }

func TestUnaryMessageIsTheBody(t *testing.T) {
	for _, want := range append(someMessages(), parts.Pattern(1<<20)) {
		for _, coding := range []string{"", "gzip"} {
			body := want
			if coding != "" && len(want) > 0 {
				body = parts.Gzipped(want)
			}
			for _, length := range lengths(body) {
				for name, chunked := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "EOF with data": iotest.DataErrReader} {
					m := newUnaryReader(chunked(bytes.NewReader(body)), length, 1<<20, coding)
					got, err := parts.ReadMessages(m)
					if err != nil || len(got) != 1 || !bytes.Equal(got[0], want) {
						t.Errorf("%s, %d bytes, length %d, coding %q: read %d messages, %v", name, len(want), length, coding, len(got), err)
					}
					parts.WantUsed(t, m.Held.Account(), 0)
				}
			}
		}
	}
}

func TestUnaryMessagesThatAreRefused(t *testing.T) {
	const limit = 100
	cut := parts.Gzipped(parts.Pattern(50))
	for _, c := range []struct {
		name, body, coding string
		length             int64
		want               report.Reason
		says               string
	}{
		{"one over the limit", strings.Repeat("x", limit+1), "", limit + 1, report.ReasonRequestTooLarge, report.KeyMessageBytes},
		{"8 GiB announced", "x", "", 8 << 30, report.ReasonRequestTooLarge, "8589934592"},
		{"one over the limit, of unknown length", strings.Repeat("x", limit+1), "", -1, report.ReasonRequestTooLarge, report.KeyMessageBytes},
		{"shorter than it says", "abc", "", 5, report.ReasonBadRequest, "3 of 5"},
		{"longer than it says", "abcdef", "", 5, report.ReasonBadRequest, "content-length"},
		{"not gzip", "not gzip, by any means", "gzip", -1, report.ReasonBadRequest, "gzip"},
		{"gzip without its end", string(cut[:len(cut)-9]), "gzip", -1, report.ReasonBadRequest, "decompressed"},
		{"gzip of one over the limit", string(parts.Gzipped(make([]byte, limit+1))), "gzip", -1, report.ReasonRequestTooLarge, report.KeyMessageBytes},
	} {
		m := newUnaryReader(strings.NewReader(c.body), c.length, limit, c.coding)
		got, err := parts.ReadMessages(m)
		if reasonOf(err) != c.want || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %d messages and %v, want %v that says %q", c.name, len(got), err, c.want, c.says)
		}
		parts.WantUsed(t, m.Held.Account(), 0)
	}
}

// TestUnaryBodyThatBreaksOff isn't one that has ended, whatever came before.
func TestUnaryBodyThatBreaksOff(t *testing.T) {
	for _, before := range []int{0, 3, 5000, 3 * memory.ChunkBytes} {
		for _, length := range []int64{-1, 1 << 20} {
			m := newUnaryReader(io.MultiReader(bytes.NewReader(parts.Pattern(before)), iotest.ErrReader(errors.New("reset"))), length, 1<<20, "")
			if got, err := parts.ReadMessages(m); reasonOf(err) != report.ReasonClientGone {
				t.Errorf("after %d bytes, length %d: %d messages and %v, want %v", before, length, len(got), err, report.ReasonClientGone)
			}
			m = newUnaryReader(io.MultiReader(bytes.NewReader(parts.Pattern(before)), iotest.ErrReader(io.ErrUnexpectedEOF)), -1, 1<<20, "")
			if got, err := parts.ReadMessages(m); err == nil {
				t.Errorf("cut after %d bytes: %d messages", before, len(got))
			}
			parts.WantUsed(t, m.Held.Account(), 0)
		}
	}
}

// TestUnaryBodyHoldsWhatHasCome: the first KiB needs no room, and a body of unknown
// length has room for little more than has come.
func TestUnaryBodyHoldsWhatHasCome(t *testing.T) {
	var m *Reader
	came := 0
	body := readerFunc(func(p []byte) (int, error) {
		bound := int64(came + memory.ChunkBytes)
		switch {
		case came < 1<<10:
			bound = 0
		case came < memory.SmallBytes:
			bound = memory.SmallBytes
		}
		if held := m.Held.Account().Used(); held > bound {
			t.Fatalf("with %d bytes of the message there, %d are held, want at most %d", came, held, bound)
		}
		if m.Gets.MessageSince() == 0 {
			t.Fatal("the message isn't noted as half read")
		}
		if came >= 1<<20 {
			return 0, io.EOF
		}
		n := min(len(p), 10<<10)
		came += n
		return n, nil
	})
	m = newUnaryReader(body, -1, 2<<20, "")
	if _, err := parts.ReadMessages(m); err != nil {
		t.Fatal(err)
	}
	if m.Gets.MessageSince() != 0 {
		t.Error("after the end the message is still noted as half read")
	}
	parts.WantUsed(t, m.Held.Account(), 0)
}

// FuzzUnaryReader holds that the length and the chunks change nothing, and that nothing
// is held at the end.
func FuzzUnaryReader(f *testing.F) {
	f.Add([]byte{}, uint16(0), uint32(100), false)
	f.Add([]byte("hello"), uint16(1), uint32(4), false)
	f.Add(parts.Gzipped([]byte("hello")), uint16(7), uint32(100), true)
	f.Add(parts.Gzipped(make([]byte, 10<<10)), uint16(7), uint32(1<<10), true)
	f.Fuzz(func(t *testing.T, text []byte, more uint16, atMost uint32, packed bool) {
		if len(text) > parts.MaxFuzzed {
			return
		}
		coding := ""
		if packed {
			coding = "gzip"
		}
		limit := int(atMost % (1<<20 + 1))
		body := parts.Stretched(text, 0, int(more))
		known := newUnaryReader(bytes.NewReader(body), int64(len(body)), limit, coding)
		want, wantErr := parts.ReadMessages(known)
		unknown := newUnaryReader(iotest.HalfReader(bytes.NewReader(body)), -1, limit, coding)
		got, err := parts.ReadMessages(unknown)
		if reasonOf(err) != reasonOf(wantErr) || len(got) != len(want) || len(got) > 0 && !bytes.Equal(got[0], want[0]) {
			t.Errorf("%x: %d messages and %v, of unknown length %d and %v", body, len(want), wantErr, len(got), err)
		}
		if len(got) > 0 && (len(got[0]) > limit || !packed && !bytes.Equal(got[0], body)) {
			t.Errorf("%x was read as %x, with a limit of %d", body, got[0], limit)
		}
		for _, m := range []*Reader{known, unknown} {
			parts.WantUsed(t, m.Held.Account(), 0)
		}
	})
}
