package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// counts of a load. Failed: no whole head of status 200 came. Truncated: one came, and then not the
// right content to its end. Retried: refused by GOAWAY or REFUSED_STREAM, which says that it was not
// processed, and asked again; the other three add up to Asked.
type counts struct {
	Asked       int64            `json:"asked"`
	Answered    int64            `json:"answered"`
	Failed      int64            `json:"failed"`
	Truncated   int64            `json:"truncated"`
	Retried     int64            `json:"retried"`
	Connections int64            `json:"connections"`
	Longest     float64          `json:"longest"` // milliseconds
	Seconds     float64          `json:"seconds"`
	Guests      map[string]int64 `json:"guests"`
	First       string           `json:"first"`
}

var errTruncated = errors.New("truncated")

const (
	perConnection = 8 // streams of an HTTP/2 connection at a time
	mostRetries   = 20
	limit         = 60 * time.Second // for one request, dialling included
)

type loading struct {
	*target
	kind, method string
	size         int64
	pause        time.Duration
	left         atomic.Int64 // requests yet to begin
	held         sync.Mutex
	counts       counts
}

func load(words []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	where := targetFlags(flags)
	made := &loading{}
	flags.StringVar(&made.kind, "kind", "kept", "new, kept, h2 or h2-once")
	flags.StringVar(&made.method, "method", "GET", "GET or POST")
	flags.Int64Var(&made.size, "size", 1024, "bytes of each answer, and of each body of a POST")
	flags.DurationVar(&made.pause, "pause", 0, "between two requests of a worker")
	workers := flags.Int("workers", 1, "requests under way at a time")
	count := flags.Int64("count", 0, "requests; 0: until standard input is closed")
	flags.Parse(words)
	if !slices.Contains([]string{"new", "kept", "h2", "h2-once"}, made.kind) {
		return fmt.Errorf("no such kind: %s", made.kind)
	}
	var err error
	if made.target, err = where.read(); err != nil {
		return err
	}
	made.counts.Guests = map[string]int64{}
	made.left.Store(*count)
	if *count == 0 {
		made.left.Store(1 << 60)
		go func() {
			io.Copy(io.Discard, os.Stdin)
			made.left.Store(0)
		}()
	}
	began := time.Now()
	made.run(*workers)
	made.counts.Seconds = time.Since(began).Seconds()
	return told(made.counts)
}

func (l *loading) run(workers int) {
	var running sync.WaitGroup
	var groups []*shared
	for number := range workers {
		if number%perConnection == 0 {
			groups = append(groups, &shared{target: l.target})
		}
		one := &worker{loading: l, number: int64(number), shared: groups[len(groups)-1]}
		running.Go(one.work)
	}
	running.Wait()
	for _, group := range groups {
		l.counts.Connections += int64(group.connections)
		group.close()
	}
}

// worker has one request under way at a time.
type worker struct {
	*loading
	number, asked int64
	link          *link   // HTTP/1.1: its own connection
	shared        *shared // HTTP/2: its group's
}

func (w *worker) work() {
	for w.left.Add(-1) >= 0 {
		began := time.Now()
		guest, retried, err := w.one()
		w.count(guest, retried, err, time.Since(began))
		w.asked++
		time.Sleep(w.pause)
	}
	if w.link != nil {
		w.link.close()
	}
}

func (l *loading) count(guest string, retried int64, err error, took time.Duration) {
	l.held.Lock()
	defer l.held.Unlock()
	l.counts.Asked++
	l.counts.Retried += retried
	l.counts.Longest = max(l.counts.Longest, float64(took.Microseconds())/1e3)
	switch {
	case err == nil:
		l.counts.Answered++
		l.counts.Guests[guest]++
	case errors.Is(err, errTruncated):
		l.counts.Truncated++
	default:
		l.counts.Failed++
	}
	if err != nil && l.counts.First == "" {
		at := time.Now().UTC().Format("15:04:05.000")
		l.counts.First = fmt.Sprintf("%s after %s: %v", at, took.Round(time.Millisecond), err)
	}
}

// one request to its end: who answered, and how often it was refused unprocessed.
func (w *worker) one() (string, int64, error) {
	if w.kind == "new" || w.kind == "kept" {
		guest, err := w.single()
		return guest, 0, err
	}
	for retried := int64(0); ; retried++ {
		guest, err := w.stream()
		if err == nil || w.kind == "h2-once" || !unprocessed(err) || retried == mostRetries {
			return guest, retried, err
		}
	}
}

// request, and where in the text its content begins: another place for each.
func (w *worker) request() (*http.Request, int64) {
	from := (w.number*7919 + w.asked*104729) % (1 << 30)
	request := &http.Request{Method: w.method, Header: http.Header{}, ProtoMajor: 1, ProtoMinor: 1}
	size, begin := strconv.FormatInt(w.size, 10), strconv.FormatInt(from, 10)
	switch {
	case strings.Trim(w.url.Path, "/") != "":
		request.URL = w.url
	case w.method == http.MethodPost:
		request.URL = w.at("/echo")
	default:
		request.URL = w.at("/bytes", "n", size, "from", begin)
	}
	if w.method == http.MethodPost {
		request.Body, request.ContentLength = io.NopCloser(&content{from, w.size}), w.size
	}
	request.Host = w.url.Host
	return request, from
}

// single is a request of HTTP/1.1. A connection that the server says to close is closed after its
// answer; one that the server closes while a request is out has failed it.
func (w *worker) single() (string, error) {
	if w.link == nil {
		made, err := w.connected()
		if err != nil {
			return "", err
		}
		w.link = made
	}
	request, from := w.request()
	w.link.SetDeadline(time.Now().Add(limit))
	answer, err := w.link.ask(request)
	if err == nil {
		err = w.whole(answer, from)
	}
	if err != nil || w.kind == "new" || answer.Close {
		w.link.close()
		w.link = nil
	}
	if err != nil {
		return "", err
	}
	return answer.Header.Get("X-Try-Guest"), nil
}

// connected waits where this machine has no port left: that is no one's fault but the tool's.
func (w *worker) connected() (*link, error) {
	for end := time.Now().Add(limit); ; {
		made, err := w.linked()
		if err == nil || !errors.Is(err, syscall.EADDRNOTAVAIL) || time.Now().After(end) {
			return made, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *worker) linked() (*link, error) {
	made, err := w.target.link()
	if err == nil {
		w.held.Lock()
		w.counts.Connections++
		w.held.Unlock()
	}
	return made, err
}

// stream is a request of HTTP/2.
func (w *worker) stream() (string, error) {
	request, from := w.request()
	in, done := context.WithTimeout(context.Background(), limit)
	defer done()
	answer, err := w.shared.ask(request.WithContext(in))
	if err != nil {
		return "", err
	}
	if err = w.whole(answer, from); err != nil {
		return "", err
	}
	return answer.Header.Get("X-Try-Guest"), nil
}

// whole reads an answer to its end.
func (w *worker) whole(answer *http.Response, from int64) error {
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		return fmt.Errorf("status %d: %s", answer.StatusCode, strings.TrimSpace(string(said)))
	}
	var err error
	if strings.Trim(w.url.Path, "/") != "" {
		_, err = io.Copy(io.Discard, answer.Body)
	} else {
		err = same(answer.Body, from, w.size)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errTruncated, err)
	}
	return nil
}

// unprocessed: the server says that it has done nothing about the request.
func unprocessed(err error) bool {
	var stream http2.StreamError
	if errors.As(err, &stream) {
		return stream.Code == http2.ErrCodeRefusedStream
	}
	return strings.Contains(err.Error(), "graceful shutdown GOAWAY")
}
