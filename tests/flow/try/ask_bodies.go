package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"
)

// upload sends `size` bytes, and compares what the program counted.
func upload(q *question) (any, error) {
	began, sum := now(), sha256.New()
	request := q.request(http.MethodPost, "/sink")
	request.Body = io.NopCloser(io.TeeReader(q.paced(&content{0, q.size}), sum))
	request.ContentLength = q.size
	if q.chunked {
		request.ContentLength = -1
	}
	answer, end, err := q.uploaded(request)
	if err != nil {
		return nil, err
	}
	defer end()
	var got struct {
		Bytes  int64  `json:"bytes"`
		Sum    string `json:"sha256"`
		Length int64  `json:"length"`
	}
	if answer.StatusCode != http.StatusOK {
		return map[string]any{"status": answer.StatusCode, "whole": false}, nil
	}
	if err = json.NewDecoder(answer.Body).Decode(&got); err != nil {
		return nil, err
	}
	return map[string]any{
		"status": answer.StatusCode, "bytes": got.Bytes, "length": got.Length,
		"whole":   got.Bytes == q.size && got.Sum == digest(sum),
		"seconds": milliseconds(now()-began) / 1e3,
	}, nil
}

func digest(sum hash.Hash) string {
	return hex.EncodeToString(sum.Sum(nil))
}

func (q *question) uploaded(request *http.Request) (*http.Response, func(), error) {
	if !q.expect {
		return q.answered(request)
	}
	made, err := q.link()
	if err != nil {
		return nil, nil, err
	}
	answer, err := continued(made, request)
	return answer, func() { made.close() }, err
}

// continued sends a request's head, waits for the word to go on, and then sends its body.
func continued(made *link, request *http.Request) (*http.Response, error) {
	body := request.Body
	request.Body = http.NoBody
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
		request.URL.RequestURI(), request.Host, request.ContentLength)
	if _, err := io.WriteString(made, head); err != nil {
		return nil, err
	}
	interim, err := http.ReadResponse(made.reader, request)
	if err != nil || interim.StatusCode != http.StatusContinue {
		return interim, err
	}
	if _, err = io.CopyBuffer(struct{ io.Writer }{made}, body, make([]byte, 64<<10)); err != nil {
		return nil, err
	}
	return http.ReadResponse(made.reader, request)
}

// download reads `size` bytes, slowly where that is asked for.
func download(q *question) (any, error) {
	began := now()
	answer, end, err := q.good(q.request(http.MethodGet, "/bytes", "n", fmt.Sprint(q.size)))
	if err != nil {
		return nil, err
	}
	defer end()
	from := q.paced(bufio.NewReaderSize(answer.Body, 256<<10))
	found := map[string]any{"bytes": q.size, "whole": true}
	if err = same(from, 0, q.size); err != nil {
		found["whole"], found["why"] = false, err.Error()
	}
	found["seconds"] = milliseconds(now()-began) / 1e3
	return found, nil
}

// paced is read no faster than the question says.
func (q *question) paced(from io.Reader) io.Reader {
	if q.rate == 0 {
		return from
	}
	return &slow{from, q.rate, time.Now(), 0}
}

// slow reads at most so many bytes a second.
type slow struct {
	io.Reader
	rate  int64
	began time.Time
	seen  int64
}

func (s *slow) Read(into []byte) (int, error) {
	count, err := s.Reader.Read(into)
	s.seen += int64(count)
	due := time.Duration(float64(s.seen) / float64(s.rate) * float64(time.Second))
	time.Sleep(time.Until(s.began.Add(due)))
	return count, err
}
