// Package config reads what a person sets: one YAML file, CULVERT_ variables
// of the environment, and flags, in that order of rising precedence.
//
// Everything starts at one typed struct, [Config]: its fields are the keys,
// their tags name key, flag and kind of value, their comments are what the
// reference, the JSON Schema and the file of defaults say. The rest reads in this
// order: keys.go makes the table of keys from the struct, kind.go says how
// each kind of value is written, parse.go takes the file apart (positions,
// exact case, nothing unknown, nothing twice), expand.go replaces ${NAME} and
// file: in its scalars, environment.go refuses variables that name no key,
// load.go lets viper choose which source wins, check.go finds what
// contradicts or endangers, print.go writes the outcome as a file.
//
// All that is wrong is reported together, each line with place and remedy.
package config

//go:generate go test -count=1 -run ^TestGeneratedFilesMatchTheStruct$ . -update
