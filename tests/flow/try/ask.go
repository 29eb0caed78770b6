package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// question is what all `try ask` have in common; each takes of it what it needs.
type question struct {
	*target
	h2, chunked, expect      bool
	method, mark, body, gate string
	count, size, rate, tally int64
	every, quiet, after      time.Duration
	headers                  []string
}

var questions = map[string]func(*question) (any, error){
	"get": get, "active": active, "sse": sse, "silent": askSilent, "streams": streams, "ws": webSocket,
	"grpc": callAll, "upload": upload, "download": download, "disconnect": disconnect,
}

func ask(words []string) error {
	if len(words) == 0 || questions[words[0]] == nil {
		return fmt.Errorf("usage: try ask %s …", strings.Join(names(), "|"))
	}
	flags := flag.NewFlagSet("ask "+words[0], flag.ExitOnError)
	where, asked := targetFlags(flags), &question{}
	flags.BoolVar(&asked.h2, "h2", false, "HTTP/2")
	flags.BoolVar(&asked.chunked, "chunked", false, "an upload that does not say how long it is")
	flags.BoolVar(&asked.expect, "expect", false, "an upload that waits for 100 Continue")
	flags.StringVar(&asked.method, "method", "GET", "of get")
	flags.StringVar(&asked.mark, "mark", "", "what the program's record calls it")
	flags.StringVar(&asked.gate, "gate", "", "what the last token waits at, until `/open?gate=` it")
	flags.StringVar(&asked.body, "kind", "sse", "of disconnect: sse, silent, upload, download, ws, grpc")
	flags.Int64Var(&asked.count, "n", 10, "tokens, or messages")
	flags.Int64Var(&asked.tally, "streams", 1, "token streams at a time")
	flags.Int64Var(&asked.size, "size", 1<<20, "bytes of an upload or download")
	flags.Int64Var(&asked.rate, "rate", 0, "bytes a second of an upload or download; 0: at once")
	flags.DurationVar(&asked.every, "every", 20*time.Millisecond, "between two tokens")
	flags.DurationVar(&asked.quiet, "for", 0, "of silence")
	flags.DurationVar(&asked.after, "after", 300*time.Millisecond, "until a disconnect")
	flags.Func("header", "NAME: VALUE, of get", func(said string) error {
		asked.headers = append(asked.headers, said)
		return nil
	})
	flags.Parse(words[1:])
	var err error
	if asked.target, err = where.read(); err != nil {
		return err
	}
	found, err := questions[words[0]](asked)
	if err != nil {
		return err
	}
	return told(found)
}

func names() []string {
	found := []string{}
	for name := range questions {
		found = append(found, name)
	}
	slices.Sort(found)
	return found
}

// request for a path below the target; what it is called goes along.
func (q *question) request(method, path string, query ...string) *http.Request {
	where := q.at(path, append(query, "mark", q.mark)...)
	return &http.Request{
		Method: method, URL: where, Host: where.Host, Header: http.Header{},
		ProtoMajor: 1, ProtoMinor: 1,
	}
}

// answered asks over a connection of its own; the head of the answer, and what ends it.
func (q *question) answered(request *http.Request) (*http.Response, func(), error) {
	made, err := q.asker(q.h2)
	if err != nil {
		return nil, nil, err
	}
	answer, err := made.ask(request)
	if err != nil {
		made.close()
		return nil, nil, err
	}
	return answer, func() { made.close() }, nil
}

// good is an answer with status 200, or an error.
func (q *question) good(request *http.Request) (*http.Response, func(), error) {
	answer, end, err := q.answered(request)
	if err == nil && answer.StatusCode != http.StatusOK {
		end()
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	return answer, end, err
}

// get tells all of an answer; where none came, why.
func get(q *question) (any, error) {
	request := q.request(q.method, "")
	request.URL = q.url
	for _, header := range q.headers {
		name, value, _ := strings.Cut(header, ": ")
		request.Header.Add(name, value)
	}
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	answer, end, err := q.answered(request)
	if err != nil {
		return map[string]any{"status": 0, "why": err.Error()}, nil
	}
	defer end()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	found := map[string]any{
		"status": answer.StatusCode, "protocol": answer.Proto, "headers": answer.Header,
		"length": answer.ContentLength, "body": string(body),
	}
	if err != nil {
		found["why"] = err.Error()
	}
	return found, nil
}

// active is the program's own record, also of one that speaks gRPC.
func active(q *question) (any, error) {
	if q.url.Scheme == "grpc" {
		return activeRPC(q)
	}
	answer, end, err := q.good(q.request(http.MethodGet, "/active"))
	if err != nil {
		return nil, err
	}
	defer end()
	var found map[string]any
	return found, json.NewDecoder(answer.Body).Decode(&found)
}

// streamed is how a stream of tokens came. Each token's delay is the time from its sending; the
// first one's, the median and the worst are told, in milliseconds.
type streamed struct {
	Tokens  int64   `json:"tokens"`
	Whole   bool    `json:"whole"`
	First   float64 `json:"first"`
	Median  float64 `json:"median"`
	Worst   float64 `json:"worst"`
	Seconds float64 `json:"seconds"`
	Guest   string  `json:"guest"`
	Why     string  `json:"why,omitempty"`
}

func sse(q *question) (any, error) {
	return q.stream()
}

func (q *question) stream() (streamed, error) {
	began := now()
	answer, end, err := q.good(q.tokens())
	if err != nil {
		return streamed{}, err
	}
	defer end()
	found := q.read(answer.Body)
	found.Seconds = milliseconds(now()-began) / 1e3
	return found, nil
}

func (q *question) tokens() *http.Request {
	return q.request(http.MethodGet, "/tokens",
		"n", fmt.Sprint(q.count), "every", q.every.String(), "gate", q.gate)
}

// read takes events as they come. The stream is whole where all came in order, then the word that
// it is finished, and then its end as the protocol has it.
func (q *question) read(from io.Reader) streamed {
	var delays []float64
	found, last, lines := streamed{}, false, bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		data, event := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if event && data == finished {
			last = true
		} else if event {
			one := token{}
			if json.Unmarshal([]byte(data), &one) != nil || int64(one.Number) != found.Tokens {
				found.Why = "not the next token: " + data
				break
			}
			delays = append(delays, milliseconds(now()-one.At))
			found.Tokens, found.Guest = found.Tokens+1, one.Guest
		}
		if err != nil {
			found.Whole = err == io.EOF && last && found.Tokens == q.count
			if !found.Whole {
				found.Why = err.Error()
			}
			break
		}
	}
	if len(delays) > 0 {
		found.First = delays[0]
		slices.Sort(delays)
		found.Median, found.Worst = delays[len(delays)/2], delays[len(delays)-1]
	}
	return found
}

// streams are many token streams at a time: over HTTP/2 a hundred a connection. Only so many of them
// wait for the head of their answer at a time, as no crowd comes within one moment.
func streams(q *question) (any, error) {
	entrance := make(chan struct{}, atOnce)
	type result struct {
		streamed
		err error
	}
	results := make(chan result)
	var group asker
	for number := range q.tally {
		if number%100 == 0 && q.h2 {
			group = &shared{target: q.target}
		}
		made := group
		go func() {
			found, err := q.over(made, entrance)
			results <- result{found, err}
		}()
	}
	var whole, cut, failed int64
	var delays []float64
	why := ""
	for range q.tally {
		one := <-results
		switch {
		case one.err != nil:
			failed, why = failed+1, one.err.Error()
		case one.Whole:
			whole, delays = whole+1, append(delays, one.Median)
		default:
			cut, why = cut+1, fmt.Sprintf("after %d tokens: %s", one.Tokens, one.Why)
		}
	}
	slices.Sort(delays)
	median := 0.0
	if len(delays) > 0 {
		median = delays[len(delays)/2]
	}
	return map[string]any{
		"streams": q.tally, "whole": whole, "truncated": cut, "failed": failed, "why": why,
		"median": median,
	}, nil
}

const atOnce = 32

// over is one token stream, over a connection that is shared, or one of its own.
func (q *question) over(made asker, entrance chan struct{}) (streamed, error) {
	entrance <- struct{}{}
	answer, end, err := q.entered(made)
	<-entrance
	if err != nil {
		return streamed{}, err
	}
	defer end()
	return q.read(answer.Body), nil
}

func (q *question) entered(made asker) (*http.Response, func(), error) {
	if made == nil {
		return q.good(q.tokens())
	}
	answer, err := made.ask(q.tokens())
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	if err != nil {
		return nil, nil, err
	}
	return answer, func() { answer.Body.Close() }, nil
}

// askSilent waits for an answer that is silent for long.
func askSilent(q *question) (any, error) {
	began := now()
	answer, end, err := q.good(q.request(http.MethodGet, "/silent", "for", q.quiet.String()))
	if err != nil {
		return nil, fmt.Errorf("after %.1f s: %w", milliseconds(now()-began)/1e3, err)
	}
	defer end()
	body, err := io.ReadAll(answer.Body)
	whole := err == nil && string(body) == finished
	return map[string]any{"whole": whole, "seconds": milliseconds(now()-began) / 1e3}, nil
}
