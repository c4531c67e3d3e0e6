package proxytls

import (
	"bytes"
	"encoding/pem"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFilesThatAreCutOffAreErrors: a file that is being written, or was copied
// badly, must not count as complete.
func TestFilesThatAreCutOffAreErrors(t *testing.T) {
	ca, second, dir := newAuthority(t, "ca"), newAuthority(t, "second"), t.TempDir()
	cert := ca.issue(time.Hour, "a.example")
	good, later := write(t, dir, "good", cert), time.Now().Add(time.Hour)
	caFile := writeCA(t, dir, ca, second)
	cut := func(whole []byte) []byte { return whole[:len(whole)-40] }
	file := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		writeFile(t, name, data)
		return name
	}
	chain := certPEM(cert.Leaf, ca.cert)
	firstDamaged := bytes.Replace(crlPEM(ca.list(later, nil, cert), second.list(later, nil)), []byte("\n"), []byte("\n="), 1)
	glued := slices.Concat(bytes.TrimSpace(certPEM(ca.cert)), certPEM(second.cert, ca.cert))
	for name, o := range map[string]Options{
		"a chain":                 {Certificates: []Pair{{Cert: file("chain", cut(chain)), Key: good.Key}}},
		"a chain that is damaged": {Certificates: []Pair{{Cert: file("damaged", bytes.Replace(chain, []byte("\n-----END"), []byte("*\n-----END"), 1)), Key: good.Key}}},
		"an indented chain":       {Certificates: []Pair{{Cert: file("indented", bytes.ReplaceAll(chain, []byte("-----B"), []byte("  -----B"))), Key: good.Key}}},
		"a key":                   {Certificates: []Pair{{Cert: good.Cert, Key: file("key", cut(keyPEM(t, cert)))}}},
		"authorities":             {Certificates: []Pair{good}, ClientCA: file("authorities", cut(certPEM(ca.cert, second.cert)))},
		"a mark in between":       {Certificates: []Pair{good}, ClientCA: file("marks", slices.Concat(certPEM(ca.cert), byteOrderMark, certPEM(second.cert)))},
		"two lines in one":        {Certificates: []Pair{good}, ClientCA: file("glued", glued)},
		"lists":                   {Certificates: []Pair{good}, ClientCA: caFile, CRLs: []string{file("lists", cut(crlPEM(second.list(later, nil), ca.list(later, nil, cert))))}},
		"the first of two lists":  {Certificates: []Pair{good}, ClientCA: caFile, CRLs: []string{file("first", firstDamaged)}},
	} {
		o.ConfigKey = "tls"
		p, err := New(o)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "truncated") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestByteOrderMarkIsNoPartOfAFile(t *testing.T) {
	ca, second, dir := newAuthority(t, "ca"), newAuthority(t, "second"), t.TempDir()
	mark := func(name string) string {
		data := read(name, content{}).data
		writeFile(t, name, append([]byte("\xef\xbb\xbf"), bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))...))
		return name
	}
	pair := write(t, dir, "a", ca.issue(time.Hour, "a.example"))
	mark(pair.Cert)
	mark(pair.Key)
	p, _ := provider(t, Options{Certificates: []Pair{pair}, ClientCA: mark(writeCA(t, dir, ca, second))})
	for _, signer := range []*authority{ca, second} {
		if _, _, err := handshake(t, p.Config(), as(ca, "a.example", signer.issue(time.Hour, "client"))); err != nil {
			t.Errorf("a client of %s: %v", signer.name, err)
		}
	}
}

func FuzzPEMBlocks(f *testing.F) {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: []byte("content")})
	f.Add(block)
	f.Add(append(block, block[:20]...))
	f.Add([]byte(" -----BEGIN"))
	f.Fuzz(func(t *testing.T, data []byte) {
		blocks, err := pemBlocks(data)
		if err != nil {
			return
		}
		var again []byte
		for _, b := range blocks {
			again = append(again, pem.EncodeToMemory(b)...)
		}
		if same, err := pemBlocks(again); err != nil || len(same) != len(blocks) {
			t.Errorf("%q has %d blocks, written again %d, %v", data, len(blocks), len(same), err)
		}
	})
}
