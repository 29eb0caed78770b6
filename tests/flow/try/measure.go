package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// measured is how long answers took: seconds of the whole, milliseconds of the rest. Of streams,
// first is from the request to the first token, and each quantile is of how late tokens come, as if
// the first had left with the request.
type measured struct {
	Asked   int     `json:"asked"`
	Failed  int     `json:"failed"`
	Why     string  `json:"why"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	First   float64 `json:"first"`
}

// meter asks over kept connections of HTTP/1.1, each as fast as it is answered.
type meter struct {
	*target
	every time.Duration
	sync.Mutex
	each, first []float64
	found       measured
}

func measure(words []string) error {
	flags := flag.NewFlagSet("measure", flag.ExitOnError)
	where := targetFlags(flags)
	workers := flags.Int("workers", 1, "connections")
	count := flags.Int("count", 1, "requests over each")
	every := flags.Duration("every", 0, "answers are streams, of a token each time this is over")
	flags.Parse(words)
	asked, err := where.read()
	if err != nil {
		return err
	}
	m := &meter{target: asked, every: *every}
	m.run(*workers, *count)
	return told(m.found)
}

// run counts from when all connections are made, and have been asked once.
func (m *meter) run(workers, count int) {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(workers)
	done.Add(workers)
	for range workers {
		go func() {
			defer done.Done()
			link, err := m.opened()
			ready.Done()
			<-start
			for n := 0; n < count && err == nil; n++ {
				err = m.once(link)
			}
			m.ended(err)
		}()
	}
	ready.Wait()
	began := now()
	close(start)
	done.Wait()
	m.found.Seconds = milliseconds(now()-began) / 1000
	m.found.P50, m.found.P99 = quantile(m.each, 50), quantile(m.each, 99)
	m.found.First = quantile(m.first, 50)
}

func (m *meter) opened() (*link, error) {
	made, err := m.link()
	if err != nil {
		return nil, err
	}
	answer, err := m.sent(made, "/health")
	if err == nil {
		_, err = io.Copy(io.Discard, answer.Body)
	}
	return made, err
}

func (m *meter) sent(to *link, path string) (*http.Response, error) {
	to.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(to, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, m.url.Host); err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(to.reader, nil)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered by %s", answer.Status)
	}
	return answer, err
}

func (m *meter) once(to *link) error {
	began := now()
	answer, err := m.sent(to, m.url.RequestURI())
	if err != nil {
		return err
	}
	var each, first []float64
	if m.every > 0 {
		each, first, err = lateness(answer.Body, began, int64(m.every))
	} else {
		_, err = io.Copy(io.Discard, answer.Body)
		each = []float64{milliseconds(now() - began)}
	}
	m.Lock()
	defer m.Unlock()
	m.each, m.first = append(m.each, each...), append(m.first, first...)
	m.found.Asked++
	return err
}

func (m *meter) ended(err error) {
	m.Lock()
	defer m.Unlock()
	if err != nil {
		m.found.Failed++
		m.found.Why = err.Error()
	}
}

// lateness of each token, and of the first, in milliseconds.
func lateness(body io.Reader, began, every int64) (each, first []float64, err error) {
	lines, due := bufio.NewScanner(body), began
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "data:") {
			continue
		}
		late := milliseconds(now() - due)
		if first == nil {
			first = []float64{late}
		}
		each = append(each, late)
		due += every
	}
	return each, first, lines.Err()
}

// quantile sorts; 0 where nothing was measured.
func quantile(all []float64, percent int) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)-1)*percent/100]
}
