// Package object reads one JSON object whose bytes come from outside: a token's header or
// claims, a set of keys, a provider's metadata. It is stricter than encoding/json where two
// readers of the same bytes could disagree: it refuses a member that occurs twice (RFC 8259 §4,
// RFC 7515 §4, RFC 7519 §4), bytes that aren't UTF-8, half of a surrogate pair, and deep
// nesting. Names are compared byte by byte.
package object

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of arrays and objects. Real claims nest four deep.
const maxDepth = 16

var (
	errNotJSON   = errors.New("not JSON")
	errNotObject = errors.New("not a JSON object")
	errUTF8      = errors.New("not UTF-8")
	errSurrogate = errors.New("half of a surrogate pair")
	errDepth     = fmt.Errorf("nested more than %d deep", maxDepth)
)

// An Object has the members of a JSON object by name. A value is a string, a json.Number, a
// bool, nil, a []any or an Object.
type Object map[string]any

// Parse reads the object in data, which may have white space around it. It allocates in
// proportion to data, which its caller bounds. Its errors quote at most the name of a member.
func Parse(data []byte) (Object, error) {
	switch {
	case !utf8.Valid(data):
		return nil, errUTF8
	case !json.Valid(data): // without recursion, and so is safe for any depth
		return nil, errNotJSON
	}
	r := reader{text: string(data)}
	r.blanks()
	if r.text[r.at] != '{' {
		return nil, errNotObject
	}
	value, err := r.value(0)
	if err != nil {
		return nil, err
	}
	return value.(Object), nil //nolint:forcetypeassert // a value that begins with { is an Object
}

// A reader reads text that is valid JSON, so it checks only what json.Valid doesn't.
type reader struct {
	text string
	at   int
}

func (r *reader) blanks() {
	for strings.IndexByte(" \t\r\n", r.text[r.at]) >= 0 {
		r.at++
	}
}

// value reads the value that begins at r.at.
func (r *reader) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth
	}
	switch r.text[r.at] {
	case '{':
		return r.object(depth)
	case '[':
		return r.array(depth)
	case '"':
		return r.string()
	case 't':
		r.at += len("true")
		return true, nil
	case 'f':
		r.at += len("false")
		return false, nil
	case 'n':
		r.at += len("null")
		return nil, nil
	}
	return r.number(), nil
}

func (r *reader) object(depth int) (Object, error) {
	o := Object{}
	r.at++
	for r.blanks(); r.text[r.at] != '}'; r.blanks() {
		if r.text[r.at] == ',' {
			r.at++
			r.blanks()
		}
		name, err := r.string()
		if err != nil {
			return nil, err
		}
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("%s occurs twice", Quote(name))
		}
		r.blanks()
		r.at++ // the colon
		r.blanks()
		if o[name], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
	r.at++
	return o, nil
}

func (r *reader) array(depth int) ([]any, error) {
	list := []any{}
	r.at++
	for r.blanks(); r.text[r.at] != ']'; r.blanks() {
		if r.text[r.at] == ',' {
			r.at++
			r.blanks()
		}
		value, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	r.at++
	return list, nil
}

func (r *reader) number() json.Number {
	begin := r.at
	for r.at < len(r.text) && strings.IndexByte("+-.eE0123456789", r.text[r.at]) >= 0 {
		r.at++
	}
	return json.Number(r.text[begin:r.at])
}

func (r *reader) string() (string, error) {
	r.at++
	begin := r.at
	for r.text[r.at] != '"' {
		if r.text[r.at] == '\\' {
			return r.escaped(begin)
		}
		r.at++
	}
	r.at++
	return r.text[begin : r.at-1], nil
}

// unescaped has the characters behind a backslash that aren't the character itself.
var unescaped = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped reads a string whose first escape sequence is at r.at.
func (r *reader) escaped(begin int) (string, error) {
	b := []byte(r.text[begin:r.at])
	for ; r.text[r.at] != '"'; r.at++ {
		c := r.text[r.at]
		if c != '\\' {
			b = append(b, c)
			continue
		}
		r.at++
		switch c = r.text[r.at]; {
		case c == 'u':
			char, err := r.unicode()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, char)
		case unescaped[c] != 0:
			b = append(b, unescaped[c])
		default: // a quote, a slash or a backslash
			b = append(b, c)
		}
	}
	r.at++
	return string(b), nil
}

// unicode reads an escape sequence, or two that are one character, whose u is at r.at. Others
// read half a pair as U+FFFD, and so two different names as the same one.
func (r *reader) unicode() (rune, error) {
	char := r.hex()
	if !utf16.IsSurrogate(char) {
		return char, nil
	}
	if !strings.HasPrefix(r.text[r.at+1:], `\u`) {
		return 0, errSurrogate
	}
	r.at += 2
	if char = utf16.DecodeRune(char, r.hex()); char == utf8.RuneError {
		return 0, errSurrogate
	}
	return char, nil
}

// hex reads the four digits behind the u at r.at, and stops at the last one.
func (r *reader) hex() rune {
	var n rune
	for range 4 {
		r.at++
		c := r.text[r.at] | 0x20 // also makes A-F lower case, and leaves digits alone
		if c >= 'a' {
			c -= 'a' - '0' - 10
		}
		n = n<<4 | rune(c-'0')
	}
	return n
}

// Text returns the member with this name, which must be a string if there is one.
func (o Object) Text(name string) (text string, present bool, err error) {
	value, present := o[name]
	if !present {
		return "", false, nil
	}
	text, is := value.(string)
	if !is {
		return "", true, fmt.Errorf("%s isn't a string", Quote(name))
	}
	return text, true, nil
}

// Quote quotes text of a peer's for an error or a log line, bounded and on one line.
func Quote(text string) string {
	const most = 64
	if len(text) <= most {
		return fmt.Sprintf("%q", text)
	}
	return fmt.Sprintf("%q…", text[:most])
}
