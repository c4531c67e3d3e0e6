package telemetry

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// end tells of n calls that ended.
func end(o *Log, method string, code codes.Code, n int) {
	for range n {
		c := &report.CallInfo{Method: method, Code: code}
		call{o}.Ended(c)
	}
}

// counts returns the not_logged of each line, "-" for a line without it.
func counts(log string) string {
	var all []string
	for line := range strings.Lines(log) {
		found := regexp.MustCompile(` not_logged=(\d+)`).FindStringSubmatch(line)
		if found == nil {
			found = []string{"", "-"}
		}
		all = append(all, found[1])
	}
	return strings.Join(all, " ")
}

func TestChattyMethodsAreSampled(t *testing.T) {
	price := "/shop.v1.Prices/Get"
	samples := []Sample{{"shop.v1.Prices/Set", 1}, {"/shop.v1.*/*", 3}, {"*/*", 2}}
	for name, c := range map[string]struct {
		level slog.Level
		tell  func(*Log)
		want  string
	}{
		"the first and each third":           {slog.LevelInfo, func(o *Log) { end(o, price, codes.OK, 8) }, "0 2 2"},
		"what failed":                        {slog.LevelInfo, func(o *Log) { end(o, price, codes.OK, 2); end(o, price, codes.NotFound, 3) }, "0 - - -"},
		"the first rule that matches counts": {slog.LevelInfo, func(o *Log) { end(o, "/shop.v1.Prices/Set", codes.OK, 3) }, "- - -"},
		"rules count apart":                  {slog.LevelInfo, func(o *Log) { end(o, price, codes.OK, 2); end(o, "/a.B/C", codes.OK, 3) }, "0 0 1"},
		"all at debug level":                 {slog.LevelDebug, func(o *Log) { end(o, price, codes.OK, 4) }, "- - - -"},
		"none at warn level":                 {slog.LevelWarn, func(o *Log) { end(o, price, codes.OK, 4) }, ""},
		"an equal rule continues its count": {slog.LevelInfo, func(o *Log) {
			end(o, price, codes.OK, 2)
			o.SetSamples([]Sample{{"a.B/*", 5}, {"shop.v1.*/*", 3}})
			end(o, price, codes.OK, 2)
		}, "0 2"},
		"another rule begins": {slog.LevelInfo, func(o *Log) {
			end(o, price, codes.OK, 2)
			o.SetSamples([]Sample{{"shop.v1.*/*", 2}})
			end(o, price, codes.OK, 3)
		}, "0 0 1"},
		"no rule": {slog.LevelInfo, func(o *Log) {
			o.SetSamples(nil)
			end(o, price, codes.OK, 3)
		}, "- - -"},
	} {
		t.Run(name, func(t *testing.T) {
			log := lines(c.level, func(o *Log) {
				o.SetSamples(samples)
				c.tell(o)
			})
			if got := counts(log); got != c.want {
				t.Errorf("got %s, want %s:\n%s", got, c.want, log)
			}
		})
	}
}

// TestSampledLinesStandForAllCalls adds up the lines of calls that end at once while
// the rules are replaced by equal ones.
func TestSampledLinesStandForAllCalls(t *testing.T) {
	var out bytes.Buffer
	o := NewLog(slog.New(slog.NewTextHandler(&out, nil)))
	samples := []Sample{{"a.B/*", 10}}
	o.SetSamples(samples)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 100 {
				end(o, "/a.B/C", codes.OK, 1)
			}
		})
	}
	for range 100 {
		o.SetSamples(samples)
	}
	work.Wait()
	end(o, "/a.B/C", codes.OK, 1) // the 801st
	total := 0
	for text := range strings.FieldsSeq(counts(out.String())) {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		total += n + 1
	}
	if total != 801 {
		t.Errorf("the lines stand for %d calls, want 801", total)
	}
}

func BenchmarkSample(b *testing.B) {
	for _, rules := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("rules=%d", rules), func(b *testing.B) {
			var out bytes.Buffer
			o := NewLog(slog.New(slog.NewTextHandler(&out, nil)))
			var samples []Sample
			for i := range rules {
				samples = append(samples, Sample{fmt.Sprintf("shop.v%d.*/*", i), 1000})
			}
			o.SetSamples(samples)
			c := &report.CallInfo{Method: fmt.Sprintf("/shop.v%d.Prices/Get", rules-1)}
			b.ReportAllocs()
			for b.Loop() {
				call{o}.Ended(c)
				out.Reset()
			}
		})
	}
}
