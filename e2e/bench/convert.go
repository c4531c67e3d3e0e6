package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/e2e/bench/benchpb"
)

// vanguardDescriptors is vanguard without generated code of the messages: like culvert, it
// knows them by their descriptors.
const vanguardDescriptors = "vanguard by descriptors"

// convertCosts is what culvert promises of a message's conversion from JSON and back.
var convertCosts = []weight{
	{"time of a conversion, protojson's by descriptors is 100 %", "%", 130, 105, false, []string{culvertOne}, benchmark("./bridge/internal/message", "^BenchmarkConverter$", "%of-descriptors")},
	{"time of a conversion, protojson's by generated code is 100 %", "%", 200, 130, false, []string{culvertOne}, benchmark("./bridge/internal/message", "^BenchmarkConverter$", "%of-generated")},
}

// benchmark runs a benchmark of a package, and returns what it says in a unit: the median of
// nine runs. For a share, in percent, it has each side in turns.
func benchmark(pkg, name, unit string) measure {
	figure := regexp.MustCompile(`([\d.]+) ` + unit)
	return func(ctx context.Context, a *arena, _ string) (float64, error) {
		run := exec.CommandContext(ctx, "go", "-C", a.bins.source, "test", "-run", "^$", "-bench", name, "-count", "9", pkg)
		run.Stderr = os.Stderr
		said, err := run.Output()
		if err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", name, err, said)
		}
		var figures []float64
		for _, found := range figure.FindAllSubmatch(said, -1) {
			f, err := strconv.ParseFloat(string(found[1]), 64)
			if err != nil {
				return 0, err
			}
			figures = append(figures, f)
		}
		if len(figures) == 0 {
			return 0, fmt.Errorf("%s says no %s:\n%s", name, unit, said)
		}
		return median(figures), nil
	}
}

// order is the message of the calls with JSON, as protobuf and as JSON.
var order = encodeOrder(&benchpb.Order{
	Id: "7d0f6f3c", CreatedMs: 1_790_000_000_000, Status: benchpb.Status_STATUS_PAID, TotalCents: 12_345, Discount: 0.25, Gift: true, Signature: []byte("signature"),
	Customer: &benchpb.Customer{Id: 7, Name: "Ada Lovelace", Email: "ada@example.com", Addresses: []string{"12 St James's Square, London"}},
	Items:    []*benchpb.Item{{Sku: "A-1", Title: "Notes on the engine", Quantity: 1, PriceCents: 9_900}, {Sku: "B-22", Title: "Punched cards", Quantity: 100, PriceCents: 24}},
	Labels:   map[string]string{"channel": "web"},
})

func encodeOrder(m *benchpb.Order) (encoded struct{ wire, text []byte }) {
	wire, err := proto.Marshal(m)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	encoded.wire, encoded.text = wire, text
	return encoded
}

// orderHeader asks the backend for orders.
const orderHeader = "x-order"

// newOrderClient is a client of Connect's unary calls with orders in JSON, and
// newOrderStreamClient one of its streams.
func newOrderClient(p *peer) client {
	return orderClient{newPostClient(p, form{
		contentType: "application/json", header: connectVersion,
		body:    func([]byte) []byte { return order.text },
		replies: func(r io.Reader) replies { return orderReader{&bareReader{r: r}} },
	})}
}

func newOrderStreamClient(p *peer) client {
	return orderClient{newPostClient(p, form{
		contentType: "application/connect+json", header: connectVersion,
		body:    func([]byte) []byte { return frame([]byte("{}")) },
		replies: func(r io.Reader) replies { return orderReader{&connectReader{frames{r: r}}} },
	})}
}

type orderClient struct{ client }

func (c orderClient) open(ctx context.Context, n int, method string, header map[string]string) (stream, error) {
	asks := map[string]string{orderHeader: "1"}
	maps.Copy(asks, header)
	return c.client.open(ctx, n, method, asks)
}

// orderReader reads orders. To the load each has the length that it has as protobuf.
type orderReader struct{ replies }

func (r orderReader) next() (int, error) {
	n, err := r.replies.next()
	blanks := bytes.Count(order.text, []byte(" ")) + 60 // protojson sets some, or none
	if err == nil && (n < len(order.text)-blanks || n > len(order.text)+blanks) {
		return n, fmt.Errorf("an order of %d bytes in JSON, want about %d", n, len(order.text))
	}
	return len(order.wire), err
}
