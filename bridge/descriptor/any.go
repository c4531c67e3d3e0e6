package descriptor

import (
	"bytes"
	"encoding/json"
)

// maxInAny is how deeply messages in Any may be nested in a JSON text. protojson reads what
// is in an Any once more for each Any around it.
const maxInAny = 8

// deepInAny reports whether messages in Any are nested more deeply. A text that is nested
// too deeply in other ways is protojson's to refuse.
func deepInAny(text []byte) bool {
	if !bytes.Contains(text, []byte("type\"")) && !bytes.Contains(text, []byte(`\u`)) {
		return false
	}
	type level struct {
		isAny  bool
		inside int // the depth of what is in the values of this one
	}
	levels := make([]level, 1, 16)
	for i := 0; i < len(text); i++ {
		here := &levels[len(levels)-1]
		switch text[i] {
		case '"':
			n := lengthOfString(text[i+1:])
			here.isAny = here.isAny || isTypeKey(text[i:min(i+1+n, len(text))])
			i += n
		case '{', '[':
			if len(levels) > maxDepth+1 {
				return false
			}
			levels = append(levels, level{})
		case '}', ']':
			if len(levels) == 1 {
				return false // no JSON
			}
			depth := here.inside
			if here.isAny {
				depth++
			}
			if depth > maxInAny {
				return true
			}
			levels = levels[:len(levels)-1]
			around := &levels[len(levels)-1]
			around.inside = max(around.inside, depth)
		}
	}
	return false
}

// isTypeKey reports whether a quoted string is "@type", also with escapes.
func isTypeKey(quoted []byte) bool {
	const key, longest = "@type", len(`"@type"`) + 5*len(`\u000`)
	if len(quoted) > longest || !bytes.ContainsRune(quoted, '\\') {
		return string(quoted) == `"`+key+`"`
	}
	var text string
	return json.Unmarshal(quoted, &text) == nil && text == key
}
