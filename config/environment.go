package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/culvert-grpc/culvert/internal/rules"
)

const envPrefix = "CULVERT_"

// FileVariable is the variable with the name of the file, if no flag names it.
const FileVariable = envPrefix + "CONFIG"

// Kubernetes sets variables for the services of a namespace, and Docker's
// links do the same. A service named culvert or culvert-demo sets
// CULVERT_SERVICE_HOST, CULVERT_PORT, CULVERT_DEMO_PORT_8080_TCP_ADDR and
// more. The operator didn't write them.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceVariable = regexp.MustCompile(`^CULVERT_([A-Z0-9_]+_)?(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// checkEnvironment returns an error for each unknown variable with the prefix
// CULVERT_, and for each invalid value. An empty variable counts as unset,
// because compose files set unset variables to an empty text.
func checkEnvironment(environ []string) []error {
	byVariable := map[string]Key{}
	for _, k := range fileKeys.keys {
		byVariable[variable(k.Name)] = k
	}
	var errs []error
	slices.Sort(environ)
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || name == FileVariable || value == "" {
			continue
		}
		switch k, known := byVariable[name]; {
		case known && k.Env == "":
			errs = append(errs, fmt.Errorf("%s: %s is a list of sections, which has no variable: write it in the file", name, k.Name))
		case known:
			values := []string{value}
			if k.List {
				values = k.split(value)
			}
			for _, v := range values {
				if err := k.Check(v); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", name, err))
				}
			}
		case name == envPrefix+"PORT" && rules.IsPort(value): // Kubernetes makes it a URL
			errs = append(errs, fmt.Errorf("%s: unknown variable: did you mean CULVERT_LISTEN=:%s?", name, value))
		case !serviceVariable.MatchString(name):
			errs = append(errs, fmt.Errorf("%s: unknown variable%s", name, suggestVariable(name)))
		}
	}
	return errs
}

// split returns the values of a list in a variable. They are separated by blanks, and by
// commas where no value can hold one: the name of a file can, and an expression for origins
// in its brackets ("{1,3}").
func (k Key) split(text string) []string {
	if k.file {
		return strings.Fields(text)
	}
	depth, escaped := 0, false
	return strings.FieldsFunc(text, func(r rune) bool {
		switch {
		case unicode.IsSpace(r):
			depth, escaped = 0, false
			return true
		case escaped:
			escaped = false
		case r == '\\':
			escaped = true
		case strings.ContainsRune("[{(", r):
			depth++
		case strings.ContainsRune("]})", r):
			depth--
		case r == ',' && depth <= 0:
			depth = 0
			return true
		}
		return false
	})
}

// suggestVariable ends the error about an unknown variable. It suggests the
// variable of the flag with the same name (CULVERT_BACKEND), or the most
// similar variable.
func suggestVariable(name string) string {
	word := strings.TrimPrefix(name, envPrefix)
	words := []string{strings.TrimPrefix(FileVariable, envPrefix)}
	for _, k := range fileKeys.keys {
		switch {
		case k.Env == "":
		case k.Flag != "" && plain(k.Flag) == plain(word):
			return ": did you mean " + k.Env + "?"
		default:
			words = append(words, strings.TrimPrefix(k.Env, envPrefix))
		}
	}
	return cmp.Or(didYouMean(word, words, envPrefix+"%s"), ": remove it; docs/reference/configuration.md lists the names")
}
