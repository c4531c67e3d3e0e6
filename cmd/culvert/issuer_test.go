package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// A fatal program ends with the mistake.
type fatal struct{}

func (fatal) Helper() {}

func (fatal) Fatal(args ...any) { log.Fatal(args...) }

// issuerMain is an issuer of tokens: http://ADDRESS has its metadata and keys, and
// /token?sub=alice&scope=a+b&lasts=5m answers with a token for the audience orders.
func issuerMain() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	name := "http://" + ln.Addr().String()
	issuer := cmdtest.NewIssuer(fatal{}, name, "a")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		must(json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": name + "/keys"}))
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write(issuer.KeySet(fatal{}))
		must(err)
	})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		lasts, err := time.ParseDuration(r.FormValue("lasts"))
		if err != nil {
			lasts = time.Hour
		}
		_, err = fmt.Fprint(w, issuer.Token(fatal{}, r.FormValue("sub"), "orders", lasts, map[string]any{"scope": r.FormValue("scope")}))
		must(err)
	})
	fmt.Fprintln(os.Stderr, "issuer at", name)
	must(http.Serve(ln, mux))
}
