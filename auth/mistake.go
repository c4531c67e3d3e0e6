package auth

import (
	"errors"
	"fmt"

	"github.com/culvert-grpc/culvert/auth/internal/rules"
)

// A Mistake is an error of a Config.
type Mistake struct {
	Key  string // as a file has it, below auth: "issuers[0].audiences"; "": Config as a whole
	Text string // continues a sentence that begins with the key
}

// Error returns the whole sentence.
func (m *Mistake) Error() string {
	if m.Key == "" {
		return m.Text
	}
	return m.Key + " " + m.Text
}

func mistake(key, format string, args ...any) *Mistake {
	return &Mistake{key, fmt.Sprintf(format, args...)}
}

// mistakeOf returns the Mistake of an error of package rules.
func mistakeOf(err error) *Mistake {
	m, is := errors.AsType[*rules.Mistake](err)
	switch {
	case !is:
		return &Mistake{Text: err.Error()}
	case m.Rule < 0:
		return &Mistake{m.Key, m.Text}
	case m.Key == "":
		return &Mistake{fmt.Sprintf("rules[%d]", m.Rule), m.Text}
	default:
		return &Mistake{fmt.Sprintf("rules[%d].%s", m.Rule, m.Key), m.Text}
	}
}

// entryMistake returns the error of an entry of a list of a rule.
func entryMistake(rule int, name, list string, at int, entry, text string) *rules.Mistake {
	return &rules.Mistake{Rule: rule, Name: name, Key: fmt.Sprintf("%s[%d]", list, at), Text: fmt.Sprintf("is %q: %s", entry, text)}
}
