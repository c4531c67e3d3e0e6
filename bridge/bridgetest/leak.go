package bridgetest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A goroutineLabel marks the goroutines of one scenario: each passes it on to
// those that it starts, culvert's, the backend's and the client's alike. So
// what a scenario left behind is known while others run beside it.
type goroutineLabel string

const labelKey = "bridgetest"

var labelCount atomic.Int64

func newLabel() goroutineLabel {
	return goroutineLabel(strconv.FormatInt(labelCount.Add(1), 10))
}

// do runs f with the label, and takes it off again however f ends.
func (l goroutineLabel) do(f func()) {
	pprof.Do(context.Background(), pprof.Labels(labelKey, string(l)), func(context.Context) { f() })
}

// running counts the label's goroutines and returns their stacks.
func (l goroutineLabel) running() (n int, stacks string) {
	var profile bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&profile, 1) // to memory
	var found strings.Builder
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(group, fmt.Sprintf("%q:%q", labelKey, string(l))) {
			continue
		}
		count, _, _ := strings.Cut(group, " @ ")
		if at := strings.LastIndex(count, "\n"); at >= 0 {
			count = count[at+1:] // the profile's own first line
		}
		alike, err := strconv.Atoi(count)
		if err != nil {
			panic("BUG: goroutine profile: " + err.Error())
		}
		n += alike
		found.WriteString(group + "\n\n")
	}
	return n, found.String()
}

// gone waits until no goroutine has the label, and returns the stacks of those
// that still run when patience is over.
func (l goroutineLabel) gone() (stacks string) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for begin := time.Now(); ; <-look.C {
		n, stacks := l.running()
		if n == 0 || time.Since(begin) > patience {
			return stacks
		}
	}
}
