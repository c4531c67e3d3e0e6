package config

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

var referenceHead = strings.ReplaceAll(`# Configuration

For people who run culvert: every key. culvert needs only ~backend.address~. [proxy.yaml](../../proxy.yaml) has the keys that most people
set. [proxy.schema.json](../proxy.schema.json) lets an editor check a file. [Commands](cli.md) check a configuration, and print defaults or
effective values. Generated from package ~config~.

## Sources

A flag wins over a variable, a variable over the file, and the file over the default.

- **File**: YAML, named with ~--config~ or ~CULVERT_CONFIG~. Unknown and duplicate keys are errors. Relative paths start at the
  directory of the file.
- **Variables**: ~CULVERT_~ and the key in upper case, with ~_~ for each dot: ~backend.tls.ca~ is ~CULVERT_BACKEND_TLS_CA~. Empty ones
  count as unset. Unknown ones are errors, except those that Kubernetes sets for a service named culvert. Separate the values of a list
  with blanks or commas, names of files with blanks. Lists of sections have no variable.
- **Flags**: repeat the flag of a list for each value. They replace the list in the file.

These references work only in values of the file. culvert takes their values as plain text.

| Reference | Value |
|---|---|
| ~${NAME}~ | the variable of the environment; an error if it isn't set |
| ~${NAME:-default}~ | the variable, or the default if it is empty or isn't set |
| ~$$~ | a dollar sign |
| ~file:/path~ | the content of the file, without a newline at its end |

culvert applies changes of the file, and of files that it names, while it runs ([reload](../guides/reload.md)), except of keys marked "restart".

## Values

| Kind | Form |
|---|---|
| duration | a number with ~ms~, ~s~, ~m~ or ~h~: ~500ms~, ~30s~, ~1h30m~ |
| size | a number with ~B~, ~KiB~, ~MiB~ or ~GiB~: ~16MiB~; ~k~ and ~kB~ mean ~KiB~ (1024 bytes), ~M~ and ~MB~ mean ~MiB~ |
| address | ~host:port~ or ~:port~; an IPv6 address in brackets |
| list | ~[a, b]~, or a line with a dash for each value |
| list of sections | a dash for each section, with its keys indented below |

## Top level
`, "~", "`")

const referenceTail = `
Next: [commands and flags](cli.md), [what an error means](errors.md), [metadata](metadata.md),
[what happens to a call](../how-it-works/calls.md).
`

func referenceFile(root entry, c *Config) []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	writeReference(&b, map[reflect.Type]string{}, entry{children: root.children}, c, "")
	b.WriteString(referenceTail)
	return b.Bytes()
}

// writeReference describes a section of the struct that of points to: its keys,
// and then the sections in it. told has the types of entries that the page has
// already, with the list of each.
func writeReference(b *bytes.Buffer, told map[reflect.Type]string, section entry, of any, name string) {
	if name != "" {
		fmt.Fprintf(b, "\n## `%s`\n", name)
	}
	if section.doc != "" {
		fmt.Fprintf(b, "\n%s\n", asMarkdown(section.doc))
	}
	b.WriteByte('\n')
	var inner []func()
	var inherited, same []string
	var list func(entries []entry, below string)
	list = func(entries []entry, below string) {
		for _, e := range entries {
			key := join(below, e.name)
			switch inEntry := strings.HasSuffix(name, "[]"); {
			case e.as != "" && e.sameAs() != "":
				short := "`" + strings.TrimPrefix(key, name+".") + "`"
				if !inEntry && e.key != nil {
					if value := valueOf(e.key, of); strings.Trim(value, `0"`) != "" && value != "false" {
						short += " (default `" + value + "`)"
					}
				}
				same = append(same, short)
			case e.sameAs() != "":
				inherited = append(inherited, strings.TrimPrefix(key, name+"."))
			case e.key != nil:
				anchor, doc, rest := fmt.Sprintf("<a id=%q></a>", strings.Map(inAnchor, key)), e.doc, ""
				switch before := told[e.of]; {
				case e.key.entries == nil:
				case before != "":
					rest = fmt.Sprintf(" Keys: as in [`%s[]`](#%s).", before, strings.Map(inAnchor, before))
				default: // the heading of its entries has it
					anchor = ""
				}
				switch {
				case e.as != "": // an entry has to have it
					doc = "As " + join(e.as, e.name) + "."
				case strings.HasPrefix(key, "limits."): // the section says it of all
					doc = noLimit.ReplaceAllString(doc, "")
				}
				fmt.Fprintf(b, "- %s**`%s`** (%s)<br>%s\n", anchor, key, strings.Join(factsOf(e, of, inEntry), "; "), inBullet(doc)+rest)
				if e.key.entries != nil && told[e.of] == "" {
					told[e.of] = key
					inner = append(inner, func() {
						writeReference(b, told, entry{children: e.children}, newEntry(e), key+"[]")
					})
				}
			case inEntry: // its keys stand beside those of the entry
				fmt.Fprintf(b, "- **`%s`** (section)<br>%s\n", key, inBullet(e.doc))
				list(e.children, key)
			default:
				inner = append(inner, func() { writeReference(b, told, e, of, key) })
			}
		}
	}
	list(section.children, name)
	if inherited != nil {
		fmt.Fprintf(b, "\nAn entry can also set these keys of the file, and inherits unset ones: `%s`.\n", strings.Join(inherited, "`, `"))
	}
	switch {
	case same == nil:
	case strings.HasSuffix(name, "[]"):
		fmt.Fprintf(b, "\nAn entry can also set these keys as in the file: %s.\n", strings.Join(same, ", "))
	default:
		fmt.Fprintf(b, "Keys as in [`%[1]s`](#%[2]s): %[3]s.\n", section.children[0].as, strings.Map(inAnchor, section.children[0].as), strings.Join(same, ", "))
	}
	for _, write := range inner {
		write()
	}
}

var noLimit = regexp.MustCompile(`;\s0s?\sis\sno\slimit`)

var listItem = regexp.MustCompile(`(?m)^\s*- `)

// inBullet writes a comment as a part of a bullet: each paragraph in a line, and
// the items of a list in it as bullets of their own.
func inBullet(doc string) string {
	var paragraphs []string
	for _, p := range strings.Split(doc, "\n\n") {
		if !listItem.MatchString(p) {
			paragraphs = append(paragraphs, asMarkdown(oneLine(p)))
			continue
		}
		var list string
		for _, item := range listItem.Split(p, -1)[1:] {
			list += "\n  - " + asMarkdown(oneLine(item))
		}
		paragraphs[len(paragraphs)-1] += list
	}
	return strings.Join(paragraphs, "\n\n  ")
}

// inAnchor makes the anchor that a heading of a key's name would have on GitHub.
func inAnchor(r rune) rune {
	if strings.ContainsRune(".[]", r) {
		return -1
	}
	return r
}

// factsOf returns the kind of a key's value, its default and its flag.
func factsOf(e entry, of any, inEntry bool) []string {
	k, kind := e.key, e.key.kind.name
	if k.words != nil {
		kind = "`" + strings.Join(k.words, "`, `") + "`"
	}
	switch {
	case k.List && len(k.words) > 10:
		kind = "list of gRPC's status codes"
	case k.List && k.words != nil:
		kind = "list of " + kind
	case k.List:
		kind = "list of " + cmp.Or(plurals[kind], kind+"s")
	case k.short != "":
		kind += ", or list of sections"
	case k.entries != nil:
		kind = "list of sections"
	}
	facts := []string{kind}
	switch value := strings.Trim(valueOf(k, of), `"`); {
	case k.needed:
		facts = append(facts, "required")
	case !inEntry && value != "" && value != "[]" && !strings.Contains(e.doc, "Default:"):
		facts = append(facts, "default `"+value+"`")
		if kind == "true or false" { // the default shows it
			facts = facts[1:]
		}
	}
	if k.Flag != "" {
		facts = append(facts, "`--"+k.Flag+"`")
	}
	if k.restart == "yes" {
		facts = append(facts, "restart")
	}
	return facts
}

var plurals = map[string]string{"address or network": "addresses or networks", "address of a name server": "addresses of name servers", "way to authenticate": "ways to authenticate"}

var (
	quotation = regexp.MustCompile(`"([^"\n]*)"`)
	keyName   = regexp.MustCompile("(^|[^`./\\w-])([a-z]+(?:[._][a-z]+)+)")
	pageName  = regexp.MustCompile(`docs/(\w[\w/-]*/([\w-]+)\.md(?:#[\w-]+)?)`)
)

// asMarkdown marks quotations and names of keys as code, and links pages.
func asMarkdown(doc string) string {
	doc = quotation.ReplaceAllStringFunc(doc, func(q string) string {
		if q == `""` {
			return "`\"\"`"
		}
		return "`" + strings.Trim(q, `"`) + "`"
	})
	doc = keyName.ReplaceAllStringFunc(doc, func(text string) string {
		m := keyName.FindStringSubmatch(text)
		if !slices.ContainsFunc(fileKeys.keys, func(k Key) bool { return k.Name == m[2] || k.last() == m[2] }) {
			return text
		}
		return m[1] + "`" + m[2] + "`"
	})
	return strings.ReplaceAll(pageName.ReplaceAllString(doc, "[$2](../$1)"), "(../reference/", "(")
}
