package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The service, by hand: every message is some bytes.
const rpcService = "/phoenix.Try/"

type message = wrapperspb.BytesValue

var rpcDescription = grpc.ServiceDesc{
	ServiceName: "phoenix.Try",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "Echo", Handler: unary((*program).rpcEcho)},
		{MethodName: "Fail", Handler: unary((*program).rpcFail)},
		{MethodName: "Active", Handler: unary((*program).rpcActive)},
	},
	Streams: []grpc.StreamDesc{
		{StreamName: "Tokens", Handler: streaming("Tokens", (*program).rpcTokens), ServerStreams: true},
		{StreamName: "Talk", Handler: streaming("Talk", (*program).rpcTalk), ServerStreams: true,
			ClientStreams: true},
	},
}

func serveGrpc(served *program, listener net.Listener) error {
	server := grpc.NewServer()
	server.RegisterService(&rpcDescription, served)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server.Serve(listener)
}

func unary(handle func(*program, context.Context, *message) (*message, error)) grpc.MethodHandler {
	return func(
		served any, in context.Context, read func(any) error, _ grpc.UnaryServerInterceptor,
	) (any, error) {
		said := new(message)
		if err := read(said); err != nil {
			return nil, err
		}
		return handle(served.(*program), in, said)
	}
}

func streaming(name string, handle func(*program, grpc.ServerStream) error) grpc.StreamHandler {
	return func(served any, stream grpc.ServerStream) error {
		program := served.(*program)
		one := program.record.begin(name, first(stream.Context(), "mark"))
		err := handle(program, stream)
		program.record.end(one, err)
		return err
	}
}

// first is the first value of what the caller said beside its messages.
func first(in context.Context, name string) string {
	said, _ := metadata.FromIncomingContext(in)
	for _, value := range said.Get(name) {
		return value
	}
	return ""
}

func (p *program) rpcEcho(in context.Context, said *message) (*message, error) {
	grpc.SetHeader(in, metadata.Pairs("x-try-guest", p.guest))
	grpc.SetTrailer(in, metadata.Pairs("x-try-bytes", strconv.Itoa(len(said.Value))))
	return said, nil
}

func (p *program) rpcFail(in context.Context, said *message) (*message, error) {
	grpc.SetTrailer(in, metadata.Pairs("x-try-bytes", strconv.Itoa(len(said.Value))))
	return nil, status.Error(codes.ResourceExhausted, "no memory is left: 100 % of it")
}

func (p *program) rpcActive(_ context.Context, said *message) (*message, error) {
	found, err := json.Marshal(p.record.found(string(said.Value)))
	return &message{Value: found}, err
}

type wanted struct {
	Count int           `json:"n"`
	Every time.Duration `json:"every"`
}

func (p *program) rpcTokens(stream grpc.ServerStream) error {
	said, want := new(message), wanted{}
	if err := stream.RecvMsg(said); err != nil {
		return err
	}
	if err := json.Unmarshal(said.Value, &want); err != nil {
		return err
	}
	for sent := range want.Count {
		if err := pause(stream.Context(), want.Every); err != nil {
			return err
		}
		found, _ := json.Marshal(token{sent, now(), p.guest})
		if err := stream.SendMsg(&message{Value: found}); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("x-try-tokens", strconv.Itoa(want.Count)))
	return nil
}

func (p *program) rpcTalk(stream grpc.ServerStream) error {
	for count := 0; ; count++ {
		said := new(message)
		err := stream.RecvMsg(said)
		if err == io.EOF {
			stream.SetTrailer(metadata.Pairs("x-try-messages", strconv.Itoa(count)))
			return nil
		}
		if err == nil {
			err = stream.SendMsg(said)
		}
		if err != nil {
			return err
		}
	}
}
