package proxytls

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"
)

func TestClientCertificateAndAuthorityAreLoadedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, next, dir := newAuthority(t, "ca"), newAuthority(t, "ca"), t.TempDir()
		pair := write(t, dir, "client", ca.issue(100*time.Hour, "old"))
		told := &story{}
		c, err := NewClient(ClientOptions{
			CA: writeCA(t, dir, ca), Cert: pair.Cert, Key: pair.Key, ServerName: "backend.example", ConfigKey: "backend.tls",
			Certificate: told.certificate, Problem: told.problem, Mended: told.mended,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		backend := func(by *authority) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{by.issue(time.Hour, "backend.example")}, ClientAuth: tls.RequireAnyClientCert}
		}
		showsTo := func(by *authority) string {
			_, served, err := handshake(t, backend(by), c.Config())
			if err != nil {
				return err.Error()
			}
			return served.PeerCertificates[0].Subject.CommonName
		}
		if got := showsTo(ca); got != "old" {
			t.Errorf("at first: %s", got)
		}
		write(t, dir, "client", next.issue(200*time.Hour, "new"))
		writeCA(t, dir, next)
		time.Sleep(lookEvery)
		synctest.Wait()
		if got := showsTo(next); got != "new" {
			t.Errorf("after the change: %s", got)
		}
		if got := showsTo(ca); got == "new" {
			t.Error("the old authority still counts")
		}

		writeFile(t, pair.Key, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		want := "backend.tls.key: " + pair.Key + " … -----BEGIN PRIVATE KEY-----"
		if !sayAll(told.wrong(), []string{want}) || len(c.Problems()) != 1 || c.Reload() == nil {
			t.Errorf("told of %q, want once %q", told.wrong(), want)
		}
		if got := showsTo(next); got != "new" {
			t.Errorf("a bad key changed what is used: %s", got)
		}
		if n, _, _ := told.counts(); n != 2 {
			t.Errorf("told of %d certificates, want 2", n)
		}
		c.Close() // once more by the defer: a reload may close what culvert's end closes
	})
}

func TestClientWithoutFiles(t *testing.T) {
	c, err := NewClient(ClientOptions{ConfigKey: "backend.tls"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if config := c.Config(); config.RootCAs != nil || config.Certificates != nil || config.MinVersion != tls.VersionTLS12 {
		t.Errorf("not the system's defaults: %+v", config)
	}
}
