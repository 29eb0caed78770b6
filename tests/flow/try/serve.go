package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const largestEcho = 64 << 20

// program is what listens behind a front.
type program struct {
	name, guest string
	record      record
	gates       gates
}

func serve(words []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	name := flags.String("name", "try", "what the program is called")
	listen := flags.String("listen", "127.0.0.1:8000", "where it listens")
	guest := flags.String("guest", "", "where it runs")
	grpc := flags.Bool("grpc", false, "speak gRPC, and nothing else")
	flags.Parse(words)
	served := &program{name: *name, guest: *guest, record: record{active: map[*seen]bool{}}}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if *grpc {
		return serveGrpc(served, listener)
	}
	server := http.Server{Handler: served.handler()}
	return server.Serve(listener)
}

// handling is one kind of request; an error says why it did not come to its end.
type handling func(http.ResponseWriter, *http.Request) error

func (p *program) handler() http.Handler {
	mux := http.NewServeMux()
	kinds := map[string]handling{
		"/{$}": p.whole, "/bytes": sendBytes, "/echo": echo, "/sink": sink, "/tokens": p.tokens,
		"/silent": silent, "/ws": talk, "/status": answer,
	}
	for path, handle := range kinds {
		mux.HandleFunc(path, p.recorded(handle))
	}
	mux.HandleFunc("/health", p.health)
	mux.HandleFunc("/open", func(_ http.ResponseWriter, of *http.Request) {
		p.gates.open(of.URL.Query().Get("gate"))
	})
	mux.HandleFunc("/active", func(to http.ResponseWriter, of *http.Request) {
		plain(to, p.record.found(of.URL.Query().Get("mark")))
	})
	return mux
}

func (p *program) recorded(handle handling) http.HandlerFunc {
	return func(to http.ResponseWriter, of *http.Request) {
		to.Header().Set("X-Try-Guest", p.guest)
		one := p.record.begin(of.URL.Path, of.URL.Query().Get("mark"))
		p.record.end(one, handle(to, of))
	}
}

// health is bad while /run/try-NAME.sick is there.
func (p *program) health(to http.ResponseWriter, _ *http.Request) {
	if _, err := os.Stat("/run/try-" + p.name + ".sick"); err == nil {
		to.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(to, p.guest)
}

// whole tells what came in.
func (p *program) whole(to http.ResponseWriter, of *http.Request) error {
	return plain(to, map[string]any{
		"service": p.name, "guest": p.guest, "method": of.Method, "host": of.Host,
		"protocol": of.Proto, "client": of.RemoteAddr, "headers": of.Header,
	})
}

func plain(to http.ResponseWriter, found any) error {
	text, err := json.Marshal(found)
	if err != nil {
		return err
	}
	to.Header().Set("Content-Type", "application/json")
	to.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, err = to.Write(text)
	return err
}

// sendBytes sends `n` bytes of the text, from `from` on.
func sendBytes(to http.ResponseWriter, of *http.Request) error {
	size, from := number(of, "n"), number(of, "from")
	to.Header().Set("Content-Type", "application/octet-stream")
	to.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if of.Method == http.MethodHead {
		return nil
	}
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, &content{from, size}, make([]byte, 64<<10))
	return err
}

func number(of *http.Request, name string) int64 {
	found, _ := strconv.ParseInt(of.URL.Query().Get(name), 10, 64)
	return found
}

func span(of *http.Request, name string) time.Duration {
	found, _ := time.ParseDuration(of.URL.Query().Get(name))
	return found
}

// echo gives a body back, once it has all of it.
func echo(to http.ResponseWriter, of *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(of.Body, largestEcho))
	if err != nil {
		return err
	}
	to.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err = to.Write(body)
	return err
}

// sink counts a body.
func sink(to http.ResponseWriter, of *http.Request) error {
	sum := sha256.New()
	size, err := io.Copy(sum, of.Body)
	if err != nil {
		return err
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	return plain(to, map[string]any{
		"bytes": size, "sha256": digest, "length": of.ContentLength,
		"expect": of.Header.Get("Expect"),
	})
}

type token struct {
	Number int    `json:"n"`
	At     int64  `json:"at"`
	Guest  string `json:"guest"`
}

const finished = "[DONE]"

// gates are what requests wait at, by name, until somebody opens it.
type gates struct {
	held sync.Map
}

func (g *gates) at(name string) chan struct{} {
	found, _ := g.held.LoadOrStore(name, make(chan struct{}))
	return found.(chan struct{})
}

func (g *gates) open(name string) {
	close(g.at(name))
}

// pass waits at the gate `name`; where that is empty there is none.
func (g *gates) pass(in context.Context, name string) error {
	if name == "" {
		return nil
	}
	select {
	case <-in.Done():
		return in.Err()
	case <-g.at(name):
		return nil
	}
}

// tokens sends `n` server-sent events, one `every` so often from when it is asked, whatever each of
// them took, with the time when it was sent. The last one waits at a `gate`, where there is one.
func (p *program) tokens(to http.ResponseWriter, of *http.Request) error {
	to.Header().Set("Content-Type", "text/event-stream")
	to.Header().Set("Cache-Control", "no-cache")
	to.WriteHeader(http.StatusOK)
	every, flusher := span(of, "every"), http.NewResponseController(to)
	count, due := int(number(of, "n")), time.Now()
	for sent := range count {
		due = due.Add(every)
		err := pause(of.Context(), time.Until(due))
		if err == nil && sent == count-1 {
			err = p.gates.pass(of.Context(), of.URL.Query().Get("gate"))
		}
		if err != nil {
			return err
		}
		text, _ := json.Marshal(token{sent, now(), p.guest})
		if _, err := fmt.Fprintf(to, "data: %s\n\n", text); err != nil {
			return err
		}
		if err := flusher.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(to, "data: %s\n\n", finished)
	return err
}

func pause(in context.Context, length time.Duration) error {
	select {
	case <-in.Done():
		return in.Err()
	case <-time.After(length):
		return nil
	}
}

// silent says nothing `for` so long, and then all.
func silent(to http.ResponseWriter, of *http.Request) error {
	if err := pause(of.Context(), span(of, "for")); err != nil {
		return err
	}
	_, err := io.WriteString(to, finished)
	return err
}

// answer gives the status that is asked for.
func answer(to http.ResponseWriter, of *http.Request) error {
	to.WriteHeader(int(number(of, "code")))
	return nil
}

// talk gives each message of a web socket back; to "push N" it says N messages of its own.
func talk(to http.ResponseWriter, of *http.Request) error {
	link, err := websocket.Accept(to, of, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer link.CloseNow()
	link.SetReadLimit(largestEcho)
	for {
		kind, said, err := link.Read(context.Background())
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return nil
		}
		if err == nil {
			err = reply(link, kind, said)
		}
		if err != nil {
			return errors.Join(errors.New("the web socket broke"), err)
		}
	}
}

func reply(link *websocket.Conn, kind websocket.MessageType, said []byte) error {
	count, pushes := strings.CutPrefix(string(said), "push ")
	if !pushes {
		return link.Write(context.Background(), kind, said)
	}
	wanted, err := strconv.Atoi(count)
	for sent := 0; err == nil && sent < wanted; sent++ {
		err = link.Write(context.Background(), kind, []byte(strconv.Itoa(sent)))
	}
	return err
}
