package doctor

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/judge_page.json anew")

// pageCases are what a page may find, and what that means. The judge of @culvert/web/diagnose
// is held to the same file.
type pageCases struct {
	Choices [][]Finding `json:"choices"` // of each probe
	Rows    []pageRow   `json:"rows"`
}

type pageRow struct {
	Pick          string   `json:"pick"` // a letter for each probe: which of its findings; "-": none
	Bidirectional Possible `json:"bidirectional"`
	Verdicts      string   `json:"verdicts"`
}

// pageChoices are the findings that a page can have.
func pageChoices() [][]Finding {
	box, own := &Answer{Status: 403, Says: "Access denied"}, &Answer{Culvert: true, Status: 403, Reason: "NO_ROUTE"}
	noPost := &Answer{Status: 405}
	result := func(r Result) Finding { return Finding{Result: r} }
	because := func(r Result, c Cause) Finding { return Finding{Result: r, Cause: c} }
	answered := func(a *Answer) Finding {
		return Finding{Result: refused, Answer: a, Evidence: a.String(), Cause: causeOf(a)}
	}
	hidden, refusedInGRPC, deaf := because(failed, causeHidden), because(works, causeUnimplemented), because(silent, causeNoPong)
	works, silent, failed, cut, held := result(works), result(silent), result(failed), result(cut), result(held)
	fails := []Finding{works, silent, failed, answered(box), answered(own), because(refused, causeHidden), because(unknown, causeUnimplemented), because(unknown, causeUnauthenticated), because(unknown, causeServiceRefuses)}
	sizes := []Finding{works, silent, failed, answered(box), answered(own), result(unknown)}
	idle := []Finding{works, works, cut, silent, result(unknown)}
	all := []struct {
		probe Probe
		may   []Finding
	}{
		{probeConnect, []Finding{works, works, works, works, works, works, failed, silent}},
		{probeALPN, []Finding{result(unknown), works, result(stripped)}},
		{probeGRPC, []Finding{because(unknown, causeHidden)}},
		{probeSocket, []Finding{works, works, works, hidden, silent}},
		{probeSocketHTTP2, []Finding{works, works, works, deaf, silent, cut, failed}},
		{probeSocketBidi, []Finding{works, works, works, silent, cut, failed, because(unknown, causeUnimplemented), because(unknown, causeQuota), because(unknown, causeServiceRefuses)}},
		{probeWeb, append(fails, works, cut, refusedInGRPC, answered(noPost))},
		{probeWebStream, append(fails, works, cut, held)},
		{probeTypeConnect, fails},
		{probeTypeJSON, fails},
		{probeLargeBody, sizes},
		{probeLargeHeader, sizes},
		{probeService, []Finding{works, because(unknown, causeUnimplemented), failed}},
		{probePreflight, []Finding{works, works, because(refused, causeOriginDenied), because(refused, causeHidden), result(stripped), silent, answered(own)}},
		{probePage, []Finding{works, works, because(refused, causePolicyBlocks), because(refused, causeMixedContent)}},
		{probeIdleSocket, idle},
		{probeIdleOneWay, idle},
		{probeIdleAnswered, idle},
	}
	choices := make([][]Finding, len(all))
	for i, c := range all {
		for _, f := range c.may {
			choices[i] = append(choices[i], f.of(c.probe))
		}
	}
	return choices
}

func (c *pageCases) judge(pick string) (Possible, string) {
	f := findings{}
	for i, letter := range []byte(pick) {
		if letter == '-' {
			continue
		}
		found := c.Choices[i][letter-'a']
		f[found.Probe] = found
	}
	j := judgementOf(f, circumstances{})
	ids := make([]string, len(j.Verdicts))
	for i, v := range j.Verdicts {
		ids[i] = v.ID
	}
	return j.Bidirectional, strings.Join(ids, " ")
}

// TestJudgeOfAPage judges what a page may find.
func TestJudgeOfAPage(t *testing.T) {
	const path = "testdata/judge_page.json"
	if *update {
		c := pageCases{Choices: pageChoices()}
		dice := rand.New(rand.NewPCG(1, 2)) // each run makes the same cases
		for range 300 {
			var pick strings.Builder
			for _, may := range c.Choices {
				n := dice.IntN(len(may) + 1)
				switch {
				case n < len(may):
					pick.WriteByte(byte('a' + n))
				case may[0].Probe == probeGRPC:
					pick.WriteByte('a')
				default:
					pick.WriteByte('-')
				}
			}
			row := pageRow{Pick: pick.String()}
			row.Bidirectional, row.Verdicts = c.judge(row.Pick)
			c.Rows = append(c.Rows, row)
		}
		text, err := json.MarshalIndent(c, "", " ")
		if err == nil {
			err = os.WriteFile(path, append(text, '\n'), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c pageCases
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Rows) == 0 {
		t.Fatal("it has no cases")
	}
	for _, row := range c.Rows {
		if bidi, ids := c.judge(row.Pick); bidi != row.Bidirectional || ids != row.Verdicts {
			t.Errorf("%s: bidirectional %s, %s; want %s, %s", row.Pick, bidi, ids, row.Bidirectional, row.Verdicts)
		}
	}
}
