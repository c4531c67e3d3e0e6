package rules

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"strings"
)

// MisplacedStar reports whether the host of an allowed origin has a "*" that is neither the
// whole host nor its first label.
func MisplacedStar(host string) bool {
	return strings.Contains(strings.TrimPrefix(host, "*"), "*") || len(host) > 1 && host[0] == '*' && host[1] != '.'
}

// ErrNoScheme reports an expression for origins of any scheme.
var ErrNoScheme = errors.New("it must begin with a literal scheme")

var expressionScheme = regexp.MustCompile(`^\^?([a-z][a-z0-9-]*)://`)

// OriginExpression compiles a regular expression for whole origins of one scheme, in any
// case. The syntax is RE2's, whose time is proportional to the origin's length for any
// expression.
func OriginExpression(text string) (scheme string, whole *regexp.Regexp, err error) {
	// Parse it alone first: unbalanced brackets could open the anchors.
	if _, err := syntax.Parse(text, syntax.Perl); err != nil {
		return "", nil, err
	}
	found := expressionScheme.FindStringSubmatch(text)
	if found == nil {
		return "", nil, ErrNoScheme
	}
	whole, err = regexp.Compile(`\A(?i:` + text + `)\z`) // it may be too large by now
	return found[1], whole, err
}
