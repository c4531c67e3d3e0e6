// Command words finds the worst sentences of the texts that people read: longer than
// 30 words, opening with "who" or "what" without being a question, or with a word
// that has a plainer one. It reads Markdown (.md; of a decision up to the end of the
// first paragraph), comments of YAML files, and other files, such as a program's help.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var plainer = map[string]string{
	"holds? for": "applies to", "sees? to": "handles", "in the midst of": "during", "heart ?beats?": "ping", "back ?pressure": "back-pressure",
	"half close": "half-close", "meta[- ]data": "metadata", "timeouts?": "time-out", "pre-flights?": "preflight", "in order to": "to",
	"ends? TLS": "terminates TLS", "two-way": "bidirectional", "thereof": "of it", "whereby": "by which", "hence": "so", "simply": "", "seamless(ly)?": "", "utili[sz]es?": "use", "vouch(es)? for": "confirm",
}

var (
	opener   = regexp.MustCompile(`^(Who|Whoever|What|Whatever|Whose|Whom)\b.*[^?]$`)
	end      = regexp.MustCompile(`[.!?]["”’)*_]*(\s|$)| · `) // of a sentence, or of a link in a row of them
	inline   = regexp.MustCompile("`[^`]*`|--[a-z][a-z-]+|<[^>]*>|\\]\\([^)]*\\)|\\b(e\\.g|i\\.e|etc|vs)\\.|(?m:^[ #]*[a-z_]+: \\b)")
	fenced   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	item     = regexp.MustCompile(`(?m)^#+ .*$|^\s*([-*+>]|\d+\.)\s+(\[[ x]\])?`)
	row      = regexp.MustCompile(`(?m)^ *\|.*$`)
	blank    = regexp.MustCompile(`\n[ \t]*\n`)
	flag     = regexp.MustCompile(`(?m)^\s*(-\w, )?--[a-z][\w-]*( \w+)?\s{2,}|^  \S+ {2,}`)
	notes    = regexp.MustCompile(`(?m)^([^#\n]*)#?(.*)$`)
	decision = regexp.MustCompile(`(?s)^# [^\n]*\n+[^#].*?\n\n`)
)

// units splits a text into paragraphs, list entries and cells, with all their lines.
func units(name, text string) []string {
	const cut = "\x00"
	switch filepath.Ext(name) {
	case ".md":
		if strings.HasPrefix(filepath.ToSlash(name), "docs/decisions/0") {
			text = decision.FindString(text)
		}
		text = fenced.ReplaceAllStringFunc(text, func(b string) string { return strings.Repeat("\n", strings.Count(b, "\n")) })
		text = row.ReplaceAllStringFunc(text, func(r string) string { return strings.ReplaceAll(r, "|", cut) })
		text = item.ReplaceAllStringFunc(text, func(i string) string { return strings.Repeat("\n", strings.Count(i, "\n")) + cut })
	case ".yaml":
		text = notes.ReplaceAllString(text, "$2")
	default:
		text = flag.ReplaceAllStringFunc(text, func(f string) string { return strings.Repeat("\n", strings.Count(f, "\n")) + cut })
	}
	return strings.Split(blank.ReplaceAllString(text, "\n"+cut+"\n"), cut)
}

// faults returns what is wrong with the sentences of a unit.
func faults(unit string) (found []string) {
	unit = inline.ReplaceAllString(unit, "x")
	for s := range strings.SplitSeq(end.ReplaceAllString(unit, "$0\n\n"), "\n\n") {
		words := strings.Fields(strings.Trim(s, "\n *_\"“(["))
		switch s = strings.Join(words, " "); {
		case len(words) > 30:
			found = append(found, fmt.Sprintf("%d words: %.70s…", len(words), s))
		case opener.MatchString(s):
			found = append(found, fmt.Sprintf("name the actor first: %.70s…", s))
		}
	}
	for word, better := range plainer {
		if at := regexp.MustCompile(`(?i)\b` + word + `\b`).FindString(unit); at != "" {
			found = append(found, fmt.Sprintf("%q: better %q, or another sentence", at, better))
		}
	}
	return found
}

// faultsOf returns the faults of a text, each behind the line of its unit.
func faultsOf(name, text string) (found []string) {
	line := 1
	for _, unit := range units(name, text) {
		for _, fault := range faults(unit) {
			found = append(found, fmt.Sprintf("%d: %s", line+strings.Count(unit, "\n")-strings.Count(strings.TrimLeft(unit, "\n "), "\n"), fault))
		}
		line += strings.Count(unit, "\n")
	}
	return found
}

func main() {
	code := 0
	for _, name := range os.Args[1:] {
		text, err := os.ReadFile(name) //nolint:gosec // the pages that make lint names
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for _, fault := range faultsOf(name, string(text)) {
			fmt.Println(name + ":" + fault)
			code = 1
		}
	}
	os.Exit(code)
}
