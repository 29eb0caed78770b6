package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/coder/websocket"
)

var errGone = errors.New("the client has gone")

// disconnect begins something that would go on for long, and goes away `after` a while, once standard
// input is closed; when it went is told. Over HTTP/1.1 a client goes by closing its connection, over HTTP/2 it resets the
// stream, and the connection stays.
func disconnect(q *question) (any, error) {
	begins := map[string]func(*question, context.Context) (func(), error){
		"sse": beginSse, "silent": beginSilent, "upload": beginUpload, "download": beginDownload,
		"ws": beginSocket, "grpc": beginCall,
	}
	begin, known := begins[q.body]
	if !known {
		return nil, fmt.Errorf("no such kind: %s", q.body)
	}
	in, cancel := context.WithCancel(context.Background())
	leave, err := begin(q, in)
	if err != nil {
		cancel()
		return nil, err
	}
	io.Copy(io.Discard, os.Stdin)
	time.Sleep(q.after)
	closed := now()
	cancel()
	leave()
	// What is sent over HTTP/2 goes out in another thread.
	time.Sleep(100 * time.Millisecond)
	return map[string]any{"closed": closed, "mark": q.mark}, nil
}

// begun sends a request, whose answer may be long in coming; what leaves it.
func (q *question) begun(in context.Context, request *http.Request, heads bool) (func(), error) {
	made, err := q.asker(q.h2)
	if err != nil {
		return nil, err
	}
	head := make(chan error, 1)
	go func() {
		answer, err := made.ask(request.WithContext(in))
		if err == nil && answer.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", answer.StatusCode)
		}
		if err == nil && heads {
			_, err = io.ReadFull(answer.Body, make([]byte, 20))
		}
		head <- err
	}()
	if heads {
		err = <-head
	}
	leave := func() {
		if !q.h2 {
			made.close()
		}
	}
	return leave, err
}

func beginSse(q *question, in context.Context) (func(), error) {
	return q.begun(in, q.request("GET", "/tokens", "n", "1000000", "every", q.every.String()), true)
}

func beginSilent(q *question, in context.Context) (func(), error) {
	return q.begun(in, q.request("GET", "/silent", "for", "1h"), false)
}

func beginDownload(q *question, in context.Context) (func(), error) {
	return q.begun(in, q.request("GET", "/bytes", "n", "1000000000000"), true)
}

// beginUpload sends for ever, some of it now and some later.
func beginUpload(q *question, in context.Context) (func(), error) {
	request := q.request("POST", "/sink")
	request.Body, request.ContentLength = io.NopCloser(&dripping{in: in}), 1<<40
	return q.begun(in, request, false)
}

// dripping has a kilobyte every 20 ms.
type dripping struct {
	in  context.Context
	all content
}

func (d *dripping) Read(into []byte) (int, error) {
	if pause(d.in, 20*time.Millisecond) != nil {
		return 0, errGone
	}
	d.all.left = 1 << 40
	return d.all.Read(into[:min(len(into), 1<<10)])
}

func beginSocket(q *question, in context.Context) (func(), error) {
	link, err := q.socket(context.Background())
	if err != nil {
		return nil, err
	}
	err = link.Write(in, websocket.MessageText, []byte("hello"))
	if err == nil {
		_, _, err = link.Read(in)
	}
	return func() { link.CloseNow() }, err
}

func beginCall(q *question, in context.Context) (func(), error) {
	made, err := q.caller()
	if err != nil {
		return nil, err
	}
	q.count = 1000000
	stream, err := tokensOf(in, q, made)
	if err == nil {
		err = stream.RecvMsg(new(message))
	}
	return func() {}, err
}
