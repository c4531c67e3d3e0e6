package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/examples/api-gateway/gatewaypb"
)

type accounts struct {
	gatewaypb.UnimplementedAccountsServer
}

func (accounts) WhoAmI(context.Context, *gatewaypb.WhoAmIRequest) (*gatewaypb.WhoAmIResponse, error) {
	return &gatewaypb.WhoAmIResponse{Name: user}, nil
}

type catalog struct {
	gatewaypb.UnimplementedCatalogServer
}

var products = []*gatewaypb.Product{
	{Name: "green tea", Cents: 450}, {Name: "black tea", Cents: 390}, {Name: "teapot", Cents: 2900}, {Name: "coffee", Cents: 590},
}

func (catalog) Search(req *gatewaypb.SearchRequest, stream grpc.ServerStreamingServer[gatewaypb.Product]) error {
	for _, p := range products {
		if !strings.Contains(p.GetName(), req.GetText()) {
			continue
		}
		if err := stream.Send(p); err != nil {
			return err
		}
	}
	return nil
}

type basket struct {
	gatewaypb.UnimplementedBasketServer
}

func (basket) Fill(stream grpc.ClientStreamingServer[gatewaypb.Product, gatewaypb.FillResponse]) error {
	sum := &gatewaypb.FillResponse{}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(sum)
		}
		if err != nil {
			return err
		}
		sum.Products++
		sum.Cents += p.GetCents()
	}
}

type support struct {
	gatewaypb.UnimplementedSupportServer
}

func (support) Chat(stream grpc.BidiStreamingServer[gatewaypb.ChatMessage, gatewaypb.ChatMessage]) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&gatewaypb.ChatMessage{Text: "you said: " + m.GetText()}); err != nil {
			return err
		}
	}
}
