package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func (q *question) socket(in context.Context) (*websocket.Conn, error) {
	// Over a connection of our own; the library asks for the protocol.
	dial := func(context.Context, string, string) (net.Conn, error) { return q.dial("http/1.1") }
	transport := &http.Transport{DialContext: dial, DialTLSContext: dial}
	where := q.at("/ws", "mark", q.mark)
	found, _, err := websocket.Dial(in, where.String(), &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport},
	})
	if err == nil {
		found.SetReadLimit(largestEcho)
	}
	return found, err
}

// webSocket says things and gets them back, hears things unasked, and says nothing for long; then
// once more.
func webSocket(q *question) (any, error) {
	in, done := context.WithTimeout(context.Background(), q.quiet+time.Minute)
	defer done()
	link, err := q.socket(in)
	if err != nil {
		return nil, err
	}
	defer link.CloseNow()
	began := now()
	if err = exchanged(in, link, q.count); err != nil {
		return nil, err
	}
	talked := milliseconds(now() - began)
	time.Sleep(q.quiet)
	if err = exchanged(in, link, 1); err != nil {
		return nil, fmt.Errorf("after silence: %w", err)
	}
	if err = link.Close(websocket.StatusNormalClosure, ""); err != nil {
		return nil, fmt.Errorf("closing: %w", err)
	}
	return map[string]any{"echoed": q.count + 1, "trip": talked / float64(q.count)}, nil
}

func exchanged(in context.Context, link *websocket.Conn, count int64) error {
	for number := range count {
		size := int64(1) << (number % 20)
		said, _ := io.ReadAll(&content{number, size})
		if err := link.Write(in, websocket.MessageBinary, said); err != nil {
			return err
		}
		_, heard, err := link.Read(in)
		if err != nil {
			return err
		}
		if !bytes.Equal(said, heard) {
			return fmt.Errorf("message %d of %d bytes came back as another one", number, size)
		}
	}
	return pushed(in, link, 10)
}

func pushed(in context.Context, link *websocket.Conn, count int) error {
	if err := link.Write(in, websocket.MessageText, []byte("push "+strconv.Itoa(count))); err != nil {
		return err
	}
	for number := range count {
		_, heard, err := link.Read(in)
		if err != nil {
			return err
		}
		if string(heard) != strconv.Itoa(number) {
			return fmt.Errorf("heard %q instead of %d", heard, number)
		}
	}
	return nil
}

// caller is a connection of gRPC; of a scheme grpc, in plain text.
func (q *question) caller() (*grpc.ClientConn, error) {
	how := insecure.NewCredentials()
	if q.tls != nil {
		how = credentials.NewTLS(q.tls)
	}
	return grpc.NewClient("passthrough:///"+q.address,
		grpc.WithTransportCredentials(how), grpc.WithAuthority(q.url.Host))
}

func activeRPC(q *question) (any, error) {
	made, err := q.caller()
	if err != nil {
		return nil, err
	}
	defer made.Close()
	answer := new(message)
	said := &message{Value: []byte(q.mark)}
	if err = made.Invoke(context.Background(), rpcService+"Active", said, answer); err != nil {
		return nil, err
	}
	var found map[string]any
	return found, json.Unmarshal(answer.Value, &found)
}

// callAll makes a call of each kind, and tells what came with it.
func callAll(q *question) (any, error) {
	made, err := q.caller()
	if err != nil {
		return nil, err
	}
	defer made.Close()
	in, done := context.WithTimeout(context.Background(), q.quiet+time.Minute)
	defer done()
	found := map[string]any{}
	for _, call := range []func(context.Context, *question, *grpc.ClientConn, map[string]any) error{
		callEcho, callFail, callTokens, callTalk,
	} {
		if err = call(in, q, made, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func callEcho(in context.Context, q *question, made *grpc.ClientConn, found map[string]any) error {
	var header, trailer metadata.MD
	said, _ := io.ReadAll(&content{3, q.size})
	answer := new(message)
	err := made.Invoke(in, rpcService+"Echo", &message{Value: said}, answer,
		grpc.Header(&header), grpc.Trailer(&trailer), grpc.MaxCallRecvMsgSize(largestEcho))
	found["echo"] = map[string]any{
		"whole": bytes.Equal(said, answer.Value), "guest": only(header, "x-try-guest"),
		"trailer": only(trailer, "x-try-bytes"),
	}
	return err
}

func callFail(in context.Context, _ *question, made *grpc.ClientConn, found map[string]any) error {
	var trailer metadata.MD
	said := &message{Value: []byte("12345")}
	err := made.Invoke(in, rpcService+"Fail", said, new(message), grpc.Trailer(&trailer))
	found["fail"] = map[string]any{
		"code": status.Code(err).String(), "message": status.Convert(err).Message(),
		"trailer": only(trailer, "x-try-bytes"),
	}
	return nil
}

// tokensOf begins a stream of tokens.
func tokensOf(in context.Context, q *question, made *grpc.ClientConn) (grpc.ClientStream, error) {
	in = metadata.AppendToOutgoingContext(in, "mark", q.mark)
	stream, err := made.NewStream(in, &rpcDescription.Streams[0], rpcService+"Tokens")
	if err != nil {
		return nil, err
	}
	text, _ := json.Marshal(wanted{int(q.count), q.every})
	if err = stream.SendMsg(&message{Value: text}); err == nil {
		err = stream.CloseSend()
	}
	return stream, err
}

func callTokens(in context.Context, q *question, made *grpc.ClientConn, found map[string]any) error {
	stream, err := tokensOf(in, q, made)
	if err != nil {
		return err
	}
	worst, count := 0.0, int64(0)
	for ; err == nil; count++ {
		said, one := new(message), token{}
		if err = stream.RecvMsg(said); err != nil {
			break
		}
		if err = json.Unmarshal(said.Value, &one); err == nil && int64(one.Number) != count {
			err = fmt.Errorf("token %d came as the %d.", one.Number, count)
		}
		worst = max(worst, milliseconds(now()-one.At))
	}
	found["tokens"] = map[string]any{
		"count": count, "worst": worst, "trailer": only(stream.Trailer(), "x-try-tokens"),
	}
	return unless(err, io.EOF)
}

func callTalk(in context.Context, q *question, made *grpc.ClientConn, found map[string]any) error {
	stream, err := made.NewStream(in, &rpcDescription.Streams[1], rpcService+"Talk")
	if err != nil {
		return err
	}
	for number := range q.count {
		said, _ := io.ReadAll(&content{number, 1000})
		heard := new(message)
		if err = stream.SendMsg(&message{Value: said}); err == nil {
			err = stream.RecvMsg(heard)
		}
		if err == nil && !bytes.Equal(said, heard.Value) {
			err = fmt.Errorf("message %d came back as another one", number)
		}
		if err != nil {
			return err
		}
	}
	// Silent for as long as is asked for, half said: the stream stays open.
	time.Sleep(q.quiet)
	stream.CloseSend()
	err = stream.RecvMsg(new(message))
	found["talk"] = map[string]any{"trailer": only(stream.Trailer(), "x-try-messages")}
	return unless(err, io.EOF)
}

func only(of metadata.MD, name string) string {
	return strings.Join(of.Get(name), ",")
}

func unless(err, good error) error {
	if err == good {
		return nil
	}
	return err
}
