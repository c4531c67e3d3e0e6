package rules

import (
	"errors"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// An identityPattern matches subjects. See Rule.Identities.
type identityPattern struct {
	text glob // if it is exactText, its prefix is all of it
	kind patternKind
}

type patternKind uint8

const (
	exactText patternKind = iota
	someText              // with * for a part
	beginning             // with ** at the end
	anyText               // "*"
)

func parseIdentity(text string) (identityPattern, error) {
	if text == "*" {
		return identityPattern{kind: anyText}, nil
	}
	head, rest := strings.CutSuffix(text, "**")
	switch {
	case rest && head == "":
		return identityPattern{}, errors.New(`is "**": write "*" for every identity`)
	case strings.HasSuffix(head, "*") && rest, strings.Contains(head, "**"):
		return identityPattern{}, errors.New(`has ** in the middle: ** can only be at the end, and * stands for any characters but / : @`)
	case rest:
		return identityPattern{newGlob(head), beginning}, nil
	case strings.Contains(text, "*"):
		return identityPattern{newGlob(text), someText}, nil
	default:
		return identityPattern{newGlob(text), exactText}, nil
	}
}

// matches reports whether the pattern matches an identity, which may be nil. Only "*" matches one
// without a subject.
func (p *identityPattern) matches(id *identity.Identity) bool {
	switch {
	case nobody(id):
		return false
	case p.kind == anyText:
		return true
	case p.kind == exactText:
		return p.text.prefix == id.Subject
	default:
		return p.text.matches(id.Subject, ofSubjects, p.kind == beginning)
	}
}
