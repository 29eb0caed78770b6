package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// target is what is asked, and how it is reached.
type target struct {
	url     *url.URL
	address string // host:port to connect to
	tls     *tls.Config
}

// targets are the flags by which a target is named.
type targets struct {
	url, resolve, ca *string
}

func targetFlags(flags *flag.FlagSet) targets {
	return targets{
		flags.String("url", "", "what is asked"),
		flags.String("resolve", "", "NAME:PORT:ADDRESS, as curl takes it; * is any name"),
		flags.String("ca", "", "a file with the root; else the system's"),
	}
}

func (t targets) read() (*target, error) {
	where, err := url.Parse(*t.url)
	if err != nil {
		return nil, err
	}
	port := where.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[where.Scheme]
	}
	if port == "" || where.Hostname() == "" {
		return nil, fmt.Errorf("no place to connect to in %q", *t.url)
	}
	found := &target{url: where, address: net.JoinHostPort(where.Hostname(), port)}
	if *t.resolve != "" {
		parts := strings.SplitN(*t.resolve, ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("not NAME:PORT:ADDRESS: %q", *t.resolve)
		}
		if (parts[0] == "*" || parts[0] == where.Hostname()) && parts[1] == port {
			found.address = net.JoinHostPort(strings.Trim(parts[2], "[]"), port)
		}
	}
	if where.Scheme == "https" {
		found.tls, err = trusting(*t.ca, where.Hostname())
	}
	return found, err
}

func trusting(ca, name string) (*tls.Config, error) {
	config := &tls.Config{ServerName: name}
	if ca == "" {
		return config, nil
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	return config, nil
}

// at is the target's URL with another path, and a query of name=value pairs.
func (t *target) at(path string, query ...string) *url.URL {
	found := *t.url
	values := found.Query()
	for place := 0; place < len(query); place += 2 {
		values.Set(query[place], query[place+1])
	}
	found.Path, found.RawQuery = path, values.Encode()
	return &found
}

const patience = 15 * time.Second

// dial connects, and shakes hands for one protocol of TLS.
func (t *target) dial(protocol string) (net.Conn, error) {
	in, done := context.WithTimeout(context.Background(), patience)
	defer done()
	plain, err := new(net.Dialer).DialContext(in, "tcp", t.address)
	if err != nil || t.tls == nil {
		return plain, err
	}
	config := t.tls.Clone()
	config.NextProtos = []string{protocol}
	made := tls.Client(plain, config)
	if err = made.HandshakeContext(in); err == nil && protocol == http2.NextProtoTLS &&
		made.ConnectionState().NegotiatedProtocol != protocol {
		err = fmt.Errorf("the server does not speak %s", protocol)
	}
	if err != nil {
		plain.Close()
		return nil, fmt.Errorf("shaking hands: %w", err)
	}
	return made, nil
}

// asker sends one request and gives the head of its answer. It tries nothing again.
type asker interface {
	ask(*http.Request) (*http.Response, error)
	close() error
}

// link is a connection of HTTP/1.1.
type link struct {
	net.Conn
	reader *bufio.Reader
}

func (t *target) link() (*link, error) {
	conn, err := t.dial("http/1.1")
	if err != nil {
		return nil, err
	}
	return &link{conn, bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (l *link) ask(request *http.Request) (*http.Response, error) {
	writer := bufio.NewWriterSize(l.Conn, 64<<10)
	err := request.Write(writer)
	if err == nil {
		err = writer.Flush()
	}
	answer, unread := http.ReadResponse(l.reader, request)
	if unread != nil && err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	return answer, unread
}

func (l *link) close() error {
	return l.Conn.Close()
}

// shared is a connection of HTTP/2, made anew where the server wants no more requests on it.
type shared struct {
	*target
	sync.Mutex
	made        *http2.ClientConn
	connections int
}

func (s *shared) current() (*http2.ClientConn, error) {
	s.Lock()
	defer s.Unlock()
	if s.made != nil && s.made.CanTakeNewRequest() {
		return s.made, nil
	}
	conn, err := s.dial(http2.NextProtoTLS)
	if err != nil {
		return nil, err
	}
	s.connections++
	s.made, err = new(http2.Transport).NewClientConn(conn)
	return s.made, err
}

func (s *shared) ask(request *http.Request) (*http.Response, error) {
	for {
		made, err := s.current()
		if err != nil {
			return nil, err
		}
		answer, err := made.RoundTrip(request)
		if err == nil || !unsent(err) {
			return answer, err
		}
	}
}

func (s *shared) close() error {
	if s.made == nil {
		return nil
	}
	return s.made.Close()
}

// unsent: the connection took no new request any more, so nothing was sent.
func unsent(err error) bool {
	return strings.Contains(err.Error(), "client conn not usable")
}

// asker is a connection of HTTP/2 or of HTTP/1.1.
func (t *target) asker(h2 bool) (asker, error) {
	if h2 {
		made := &shared{target: t}
		_, err := made.current()
		return made, err
	}
	return t.link()
}
