// Package release pins the programs that make a release, and tests what they make.
//
// goreleaser.sh runs goreleaser with .goreleaser.yaml, and prepare.sh makes the
// generated files of archives and packages. The tests build a snapshot and use it as its
// users do: they unpack archives, install packages under a systemd of their own, and
// verify the signature. testdata/system.sh boots that systemd.
package release
