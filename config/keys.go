package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// A Key is one setting.
type Key struct {
	Name string // its path in the file: "backend.tls.ca"; inside a list of sections "listen[].address"
	Env  string // its variable; "" for a list of sections
	Flag string // its flag without dashes; "" if it has none
	List bool   // whether it has any number of values

	kind   kind     // of its value, or of the single value that stands for a list of sections
	words  []string // the only values, if they are words
	path   string   // its name in its table
	index  []int    // its field in its table's struct
	file   bool     // whether its value is a path
	secret bool     // whether Print hides its value
	needed bool     // whether an entry must have it
	like   string   // the key of the file that an entry inherits from
	unset  string   // the value in an entry that doesn't set it, for the reference; "": the zero value
	same   string   // the key of the file with the same meaning and default
	group  string   // keys that an entry inherits only together

	restart string // what needs a restart: "yes", "entries" (their number), or ""

	entries *table // of each entry, if the key holds a list of sections
	short   string // the path in entries of a single value; "" if only a list is valid
}

// A table has the keys of one struct: of the file, or of an entry in a list of
// sections.
type table struct {
	keys     []Key
	sections map[string]bool
}

// key returns the key of a path, or one without a name. A search is quick enough for what is
// read at the start and at a reload, and a map would hold each key once more as long as the
// program runs.
func (t *table) key(path string) Key {
	if i := slices.IndexFunc(t.keys, func(k Key) bool { return k.path == path }); i >= 0 {
		return t.keys[i]
	}
	return Key{}
}

// Check returns an error if text isn't a valid value of k.
func (k Key) Check(text string) error {
	if _, err := k.kind.parse(text); err != nil {
		return k.wrong(text, err)
	}
	return nil
}

// wrong returns an error of kind.parse with the text that is wrong, but without a
// user name and password in it: logs and pages show errors.
func (k Key) wrong(text string, err error) error {
	if strings.Contains(text, "@") {
		err = withoutValue(err, k)
	}
	return fmt.Errorf("%q %w", withoutUser(text), err)
}

// userInfo matches a scheme and what may be a user name and password. In a wrong value,
// a password may contain any character.
var userInfo = regexp.MustCompile(`(?s)^([0-9A-Za-z+.-]+://)?.*@`)

// withoutUser hides the user name and password in "http://user:password@host".
func withoutUser(text string) string { return userInfo.ReplaceAllString(text, "${1}"+hidden+"@") }

// Words returns the values that k accepts, or nil if k isn't limited to a few
// words.
func (k Key) Words() []string { return k.words }

// Default returns the default for the help of a flag, or "".
func (k Key) Default() string {
	defaults := Defaults()
	switch v := k.text(reflect.ValueOf(&defaults).Elem()).(type) {
	case string:
		return v
	case []section:
		if text, ok := k.shortForm(v); ok {
			return text
		}
	}
	return ""
}

// Bool reports whether k is a boolean.
func (k Key) Bool() bool { return !k.List && k.kind.name == kindsByType[reflect.TypeFor[bool]()].name }

// last returns the name of the key in its section.
func (k Key) last() string { return k.path[strings.LastIndexByte(k.path, '.')+1:] }

func (k Key) example() string {
	switch {
	case k.words != nil:
		return k.words[len(k.words)-1]
	case k.kind.name == "file":
		return k.last() + ".pem"
	}
	return k.kind.example
}

// Entries returns the keys of an entry if k is a list of sections, and nil
// otherwise. The caller must not change the slice.
func (k Key) Entries() []Key {
	if k.entries == nil {
		return nil
	}
	return k.entries.keys
}

// Keys returns all keys of the file, in the order of the struct, without the
// keys of entries in lists. The caller must not change the slice.
func Keys() []Key { return fileKeys.keys }

var fileKeys = tableOf(reflect.TypeFor[Config](), "")

// tableOf returns the table of a struct. prefix begins the names of its keys.
func tableOf(t reflect.Type, prefix string) *table {
	w := walk{prefix: prefix}
	w.fields(t, "", inherited{}, nil)
	made := &table{keys: slices.Clone(w.keys), sections: map[string]bool{"": true}} // without room for more
	for _, k := range w.keys {
		for i, c := range k.path {
			if c == '.' {
				made.sections[k.path[:i]] = true
			}
		}
	}
	return made
}

// A walk collects the keys of a struct. Tests check the tags, so a wrong tag
// is a bug.
type walk struct {
	prefix string
	keys   []Key
}

// inherited has the tags "like", "same" and "restart" of a struct, which hold for
// its fields.
type inherited struct{ like, same, restart string }

// below returns the tags of a field.
func (in inherited) below(field reflect.StructField) inherited {
	of := func(tag, section string) string {
		if own := field.Tag.Get(tag); own != "" || section == "" || field.Anonymous {
			return cmp.Or(own, section)
		}
		return join(section, field.Tag.Get("key"))
	}
	return inherited{of("like", in.like), of("same", in.same), cmp.Or(field.Tag.Get("restart"), in.restart)}
}

func (w *walk) fields(t reflect.Type, section string, in inherited, index []int) {
	for i := range t.NumField() {
		field := t.Field(i)
		path := join(section, field.Tag.Get("key"))
		from := in.below(field)
		at := append(index[:len(index):len(index)], i)
		switch {
		case field.Anonymous: // its keys stand in this section
			w.fields(field.Type, section, from, at)
		case field.Type.Kind() == reflect.Struct: // a section: no value is one
			w.fields(field.Type, path, from, at)
		default:
			w.keys = append(w.keys, keyOf(field, path, w.prefix, from, at))
		}
	}
}

func keyOf(field reflect.StructField, path, prefix string, in inherited, index []int) Key {
	k := Key{
		Name:   join(prefix, path),
		path:   path,
		index:  index,
		file:   field.Tag.Get("is") == "file" || field.Tag.Get("is") == "directory",
		secret: field.Tag.Get("is") == "secret",
		needed: field.Tag.Get("needed") != "" && prefix != "",
		like:   in.like,
		same:   in.same,
		unset:  field.Tag.Get("unset"),
		group:  field.Tag.Get("group"),

		restart: in.restart,
	}
	if prefix == "" { // a key of an entry has no variable or flag
		k.Env, k.Flag = variable(k.Name), field.Tag.Get("flag")
	}
	t := field.Type
	if t.Kind() == reflect.Slice {
		t = t.Elem()
		if _, value := kindsByType[t]; t.Kind() == reflect.Struct && !value {
			return k.sectionList(t, field.Tag.Get("short"))
		}
		k.List = true
	}
	k.words = wordsByTag[field.Tag.Get("words")]
	if one := field.Tag.Get("one"); one != "" {
		k.words = strings.Split(one, ",")
	}
	switch is := field.Tag.Get("is"); {
	case k.words != nil:
		k.kind = oneOf(k.words)
	case is != "":
		k.kind = kindsByTag[is]
	default:
		k.kind = kindsByType[t]
	}
	if k.kind.parse == nil {
		panic("BUG: config: no kind for " + k.Name)
	}
	return k
}

// sectionList returns k as a list of sections with the keys of t.
func (k Key) sectionList(t reflect.Type, short string) Key {
	k.entries = tableOf(t, k.Name+"[]")
	k.short = short
	if short == "" {
		k.Env, k.Flag = "", ""
		return k
	}
	k.kind = k.entries.key(short).kind
	return k
}

func variable(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

func join(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + "." + name
}
