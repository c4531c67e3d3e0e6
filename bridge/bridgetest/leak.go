package bridgetest

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A goroutineLabel marks the goroutines of one scenario: each passes the label on
// to those that it starts, in culvert, the backend and the client alike. So the
// leftovers of a scenario are known while others run beside it.
type goroutineLabel string

const labelKey = "bridgetest"

var labelCount atomic.Int64

func newLabel() goroutineLabel {
	return goroutineLabel(strconv.FormatInt(labelCount.Add(1), 10))
}

// do runs f with the label, and removes the label however f ends.
func (l goroutineLabel) do(f func()) {
	pprof.Do(context.Background(), pprof.Labels(labelKey, string(l)), func(context.Context) { f() })
}

// lingers is the function in which net/http sleeps for half a second before it
// closes a connection whose request it didn't read to the end. It ends by itself.
const lingers = "net/http.(*conn).closeWriteAndWait"

// running counts the label's goroutines, without those that linger, and returns
// their stacks.
func (l goroutineLabel) running() (n int, stacks string) {
	return labelled(func(group string) bool {
		return strings.Contains(group, fmt.Sprintf("%q:%q", labelKey, string(l))) && !strings.Contains(group, lingers)
	})
}

// labelled counts the goroutines of all labels for which holds is true for their
// part of the profile.
func labelled(holds func(group string) bool) (n int, stacks string) {
	var found strings.Builder
	for _, group := range shared.after(time.Now()) {
		if !holds(group) {
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

// shared is the profile of all scenarios' goroutines. A profile is expensive, so one
// serves every scenario that waits for one, and more of them wait for each.
var shared profile

// gatherTime is how long a profile waits for more scenarios. Most scenarios need no
// second one then: their goroutines have ended meanwhile.
const gatherTime = 30 * time.Millisecond

type profile struct {
	mu     sync.Mutex
	began  time.Time
	groups []string // of goroutines that have a label and the same stack
}

// after returns the groups of a profile that was begun after the time.
func (p *profile) after(t time.Time) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.After(t) {
		return p.groups
	}
	time.Sleep(gatherTime)
	p.began, p.groups = time.Now(), nil
	var text bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&text, 1) // to memory
	for group := range strings.SplitSeq(text.String(), "\n\n") {
		if strings.Contains(group, fmt.Sprintf("%q:", labelKey)) {
			p.groups = append(p.groups, group)
		}
	}
	return p.groups
}

// atMost waits until at most n goroutines have the label. After patience it returns
// the stacks of those that are left.
func (l goroutineLabel) atMost(n int) (stacks string) {
	return awaitAtMost(n, l.running)
}

// noneLinger waits until net/http's goroutines have ended, too.
func noneLinger() {
	awaitAtMost(0, func() (int, string) {
		return labelled(func(group string) bool { return strings.Contains(group, lingers) })
	})
}

func awaitAtMost(n int, running func() (int, string)) (stacks string) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for begin := time.Now(); ; <-look.C {
		there, stacks := running()
		if there <= n {
			return ""
		}
		if time.Since(begin) > patience {
			return stacks
		}
	}
}
