// Package config reads the configuration: one YAML file, CULVERT_ variables of
// the environment, and flags. Flags win over variables, and variables over the
// file.
//
// [Config] defines everything. Its fields are the keys, and their tags give the
// key's name, flag and kind of value. Their comments become the reference, the
// JSON Schema and the file of defaults. Read the rest in this order:
//
//   - keys.go makes the table of keys from the struct
//   - kind.go defines the forms of values
//   - parse.go parses the file, with positions and exact case, and refuses
//     unknown and duplicate keys
//   - expand.go replaces ${NAME} and file: in scalars
//   - environment.go refuses variables of no key
//   - load.go lets viper choose the source of each value
//   - check.go finds contradictions and dangers
//   - print.go writes the result as a file
//
// The package reports all mistakes together, each in a line with place and
// remedy.
package config

//go:generate go test -count=1 -run ^TestGeneratedFilesMatchTheStruct$ . -update
