package config

import (
	"path"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// checkLogSamples finds entries of log.sample that have no effect.
func checkLogSamples(l *Loaded) {
	var patterns []string
	for _, s := range l.Log.Sample {
		patterns = append(patterns, s.Pattern)
	}
	checkPatternsCount(l, "log.sample", patterns)
}

// checkLogFields finds fields that are there twice, too many, API keys, and first messages, which
// are nearly always tokens.
func checkLogFields(l *Loaded) {
	fields := l.Log.Fields
	for i, field := range fields {
		if slices.Contains(fields[:i], field) {
			l.refuse("log.fields", "has %s twice: remove one of them", field)
			return
		}
	}
	if len(fields) > rules.MaxLogFields {
		l.refuse("log.fields", "has %d fields: a line may have %d", len(fields), rules.MaxLogFields)
	}
	if keys := &l.Auth.APIKeys; keys.File != "" && slices.Contains(fields, rules.LogMetadata+keys.Header) {
		l.refuse("log.fields", "has %s%s, which has API keys (%s), and the log must not have secrets: remove it", rules.LogMetadata, keys.Header, l.Place("auth.api_keys.header"))
	}
	for i := range l.Routes {
		name := l.Routes[i].Message.FirstMessage
		if name != "" && slices.Contains(fields, rules.LogMetadata+name) {
			key := Entry("routes", i) + ".message.first_message"
			l.refuse("log.fields", "has %s%s, which is the first message of clients (%s) and may be a secret: remove it", rules.LogMetadata, name, l.Place(key))
		}
	}
}

// checkPatternsCount finds entries of a list that have no effect, because an
// earlier entry matches all of their calls. The first entry that matches a call
// applies.
func checkPatternsCount(l *Loaded, list string, patterns []string) {
	for i, pattern := range patterns {
		key := Entry(list, i) + ".pattern"
		for j, before := range patterns[:i] {
			first := l.Place(Entry(list, j) + ".pattern")
			if before == pattern {
				l.refuse(key, "is the pattern of %s, too: merge the two entries", first)
				break
			}
			// A "*" matches any text without a slash, as it does for files, and therefore
			// also a "*" of the other pattern.
			if covers, _ := path.Match(strings.TrimPrefix(before, "/"), strings.TrimPrefix(pattern, "/")); covers {
				l.warn(key, "has no effect, because "+first+" matches all of its calls and comes first: move this entry before it")
				break
			}
		}
	}
}
